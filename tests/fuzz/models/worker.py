"""Forks children that try one file after another, and sees them die. Run by ``runner.py``.

A child lives until it dies or has tried some hundreds: starting Python and llama.cpp for each file would take twenty times
as long. It writes the number of a file into memory that it shares before it begins.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import mmap
import os
import resource
import signal
import struct
import sys
import time
import traceback
import warnings
from importlib import metadata
from pathlib import Path
from types import ModuleType

from tests.fuzz.models.mutations import mutant
from tests.fuzz.models.seeds import read_seeds
from tests.fuzz.models.trial import MEMORY_LIMIT, try_model

__all__ = ["SECONDS"]

SECONDS = 20.0
"""A file that computes for longer hangs: seconds of the processor, whatever else the machine has to do."""
_STUCK = 300.0
"""So does one that takes so long by the clock, without computing."""
_CHILD_TRIES = 400
_NATIVE_MEMORY = 4 << 30
"""Address space beyond that of the start: whatever allocates without bound gets an error, not the whole machine."""
_PEAK_MIB = {"native": 700, "wasm": (MEMORY_LIMIT >> 20) + 200}
"""Above what the process has before its first model."""
_NOW = struct.Struct("<qdd")  # number of the file, when it began, seconds computed before


def _say(**line: object) -> None:
    os.write(1, json.dumps(line).encode() + b"\n")


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _try_some(
    folder: Path, seed: int, first: int, end: int, backend: str, now: mmap.mmap, scratch: Path
) -> None:
    """In the child: try files until the end, and leave."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    seeds = read_seeds(folder)
    path = scratch / "hostile.gguf"
    _warm_up(seeds["llama-spm"].whole(), path, backend)
    if backend == "native":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + _NATIVE_MEMORY, used + _NATIVE_MEMORY))
    start = peak = _peak_mib()
    for number in range(first, end):
        hostile = mutant(seeds, seed, number)
        path.write_bytes(hostile.data)
        began = time.monotonic()
        now[: _NOW.size] = _NOW.pack(number, began, time.process_time())
        problem = ""
        outcome = "problem"
        try:
            outcome = try_model(path, backend)
        except Exception:
            problem = traceback.format_exc()
        before, peak = peak, _peak_mib()
        if peak > start + _PEAK_MIB[backend] and peak > before:
            problem += f"peak memory {peak - start} MiB above the start"
        if problem:
            _say(problem=problem, number=number)
        _say(done=number, outcome=outcome, seconds=time.monotonic() - began, peak=peak - start)
    now[: _NOW.size] = _NOW.pack(end, time.monotonic(), time.process_time())


def _warm_up(data: bytes, path: Path, backend: str) -> None:
    """One right model, so that what is loaded only once is not counted as a file's."""
    path.write_bytes(data)
    outcome = try_model(path, backend)
    if outcome != "used":
        raise RuntimeError(f"a model with nothing wrong: {outcome}")


def _without_preflight() -> None:
    """Leave out what is checked before an engine, to see that the sandbox holds without it. Only here: nobody can ask for it."""
    import llama_bridge_wasm.backend as backend

    assert isinstance(backend, ModuleType)
    for name in ("check_model", "check_fit", "check_tokenizer"):
        assert hasattr(backend, name)
        setattr(backend, name, lambda *_: None)


def _run(
    folder: Path, seed: int, first: int, count: int, backend: str, scratch: Path, preflight: bool
) -> None:
    if not preflight:
        _without_preflight()
    if backend == "native":
        import llama_bridge_native.opening  # noqa: F401 -- loaded once, before the first fork
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    metadata.version = functools.cache(metadata.version)  # a third of the time of a file
    now = mmap.mmap(-1, _NOW.size)
    errors = scratch / "errors.txt"
    number, end = first, first + count
    while number < end:
        last = min(end, number + _CHILD_TRIES)
        now[: _NOW.size] = _NOW.pack(number - 1, time.monotonic(), 0.0)
        errors.write_bytes(b"")
        child = os.fork()
        if not child:
            status = 1
            try:
                os.dup2(os.open(errors, os.O_WRONLY | os.O_APPEND), 2)
                _try_some(folder, seed, number, last, backend, now, scratch)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        number = _watch(child, now, last, errors)
    _say(end=True)


def _watch(child: int, now: mmap.mmap, last: int, errors: Path) -> int:
    """Wait for a child; returns the number of the file to go on with."""
    while True:
        gone, status = os.waitpid(child, os.WNOHANG)
        number, began, before = _NOW.unpack(now[: _NOW.size])
        if gone:
            code = os.waitstatus_to_exitcode(status)
            if code == 0:
                return last
            if code == 1:
                raise RuntimeError(errors.read_text(errors="replace"))
            name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            said = errors.read_text(errors="replace")[-1500:]
            _say(problem=f"died of {name}\n{said}", number=number)
            _say(done=number, outcome="death", seconds=time.monotonic() - began, peak=0)
            return int(number) + 1
        computed = _computed(child) - before
        if computed > SECONDS or time.monotonic() > began + _STUCK:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            _say(problem=f"hung, after computing for {computed:.0f} s", number=number)
            _say(done=number, outcome="hang", seconds=time.monotonic() - began, peak=0)
            return int(number) + 1
        time.sleep(0.01)


def _computed(process: int) -> float:
    """Seconds of the processor that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for argument in ("seed", "first", "count"):
        parser.add_argument(argument, type=int)
    parser.add_argument("backend")
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--without-preflight", dest="preflight", action="store_false")
    _run(**vars(parser.parse_args()))
    sys.exit(0)
