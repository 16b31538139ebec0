"""The child process: loads hostile files into live bridges and says what went wrong.

It writes one line for each file, before it starts: the parent knows which one crashed or hung.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from llama_bridge import BridgeError, LlamaBridge, MemoryKind, ModelParams, SamplingParams
from llama_bridge.cli.app import app
from llama_bridge.engine import Engine
from llama_bridge.local.active import Active
from llama_bridge.snapshot import Snapshot
from tests.fuzz.mutations import mutant, read_seeds
from tests.fuzz.parts import Expected, Mutant, Parts
from tests.ledger import engine_of, machine
from tools.random_model import write_model

__all__ = ["KINDS", "prepare"]

KINDS = ("llama", "qwen2", "qwen2vl", "gemma3", "mamba", "lfm2")
N_CTX = 512
SECONDS = 5.0
"""A file that takes longer hangs."""
_ROOM = 1 << 30
"""Memory beyond that of the open models."""
_GREEDY = SamplingParams(temperature=0, max_tokens=3)
_WARM = SamplingParams(temperature=0.8, seed=1, max_tokens=3)
_TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
_SEEN_LOGITS = 97
"""Every so many logits are compared."""
_TOLERANCE = 0.3
"""Between logits of the same tokens, evaluated in other batches: up to 0.12 were seen, of other tokens 0.7 and more."""


_DOORS = ("load", "replay", "bare", "look")
_OFTEN = (12, 3, 2, 3)


class Problem(Exception):
    """What must not happen."""


def prepare(folder: Path) -> None:
    """Write the models, and valid sessions of each."""
    for kind in KINDS:
        write_model(_model(folder, kind), architecture=kind, seed=3, chat_template=_TEMPLATE)
        with _open(folder, kind) as llama:
            llama.generate("My name is Zorvane.", sampling=_GREEDY)
            _save(llama, folder / f"{kind}-0.session")
            llama.generate_continue("What is my name? " * 4, sampling=_GREEDY)
            llama.generate_continue("And yours?", sampling=_GREEDY)
            _save(llama, folder / f"{kind}-1.session")
            llama.session_rewind()  # where memory cannot rewind, tokens are owed
            _save(llama, folder / f"{kind}-2.session")
            llama.generate("Once upon a time", sampling=_GREEDY, chat=False)
            engine_of(llama).cancel()
            _save(llama, folder / f"{kind}-3.session")


def _save(llama: LlamaBridge, path: Path) -> None:
    llama.session_save(path)
    parts = Parts.of(path.read_bytes())
    path.write_bytes(parts.with_json(parts.json | {"created": ""}).whole())  # the same every time


def _model(folder: Path, kind: str) -> Path:
    return folder / f"{kind}.gguf"


def _open(folder: Path, kind: str) -> LlamaBridge:
    params = ModelParams(n_ctx=N_CTX, n_threads=1)
    return LlamaBridge(_model(folder, kind), backend="native", params=params)


@dataclass(frozen=True)
class _Next:
    """What follows a ledger: tokens drawn greedily, and some of the logits that they were drawn from."""

    tokens: tuple[int, ...]
    logits: tuple[float, ...]

    def agrees(self, other: _Next) -> bool:
        far = max(abs(a - b) for a, b in zip(self.logits, other.logits, strict=True))
        return far < _TOLERANCE


class _Target:
    """A bridge with a live session, to which nothing may happen."""

    def __init__(self, llama: LlamaBridge) -> None:
        self.llama = llama
        self.session: Active = machine(llama)
        self.engine: Engine = self.session.engine
        llama.generate("Hello! I am alive.", sampling=_GREEDY)
        llama.generate_continue("And well.", sampling=_GREEDY)
        self.live: Snapshot = self.session.snapshot()
        self.after_live = self.evaluated(self.live.tokens)
        self._evaluated: dict[tuple[int, ...], _Next] = {}
        self.revive()

    def revive(self) -> None:
        if not self.session.restore(self.live):
            raise Problem("the live session cannot be restored")

    def following(self) -> _Next:
        """What follows the conversation in the cache, which this changes."""
        self.engine.clear_cancel()
        kv = self.session.kv
        if not kv.append([]) or self.engine.length != len(kv.tokens):
            raise Problem(f"ledger of {len(kv.tokens)} tokens, cache of {self.engine.length}")
        return self._next(kv.tokens[-1])

    def evaluated(self, tokens: Sequence[int]) -> _Next:
        """What follows tokens that are evaluated from nothing."""
        self.engine.clear()
        self.engine.decode(tokens)
        return self._next(tokens[-1])

    def _next(self, probe: int) -> _Next:
        # A restored cache has no logits: one token more, the same on both sides.
        self.engine.decode([probe])
        logits = tuple(self.engine.logits()[::_SEEN_LOGITS])
        self.engine.set_sampler(_GREEDY, 0, [])
        drawn = [self.engine.sample()]
        while len(drawn) < 3:
            following = self.engine.step(drawn[-1])
            assert following is not None
            drawn.append(following)
        return _Next(tuple(drawn), logits)

    # one file

    def try_file(self, path: Path, hostile: Mutant, draw: random.Random) -> str:
        """Load it; the error's name if it was refused, or as what it was accepted."""
        door = draw.choices(_DOORS, _OFTEN)[0]
        expected = hostile.expected
        if door == "look":
            return self._look(path, expected, draw)
        if door == "bare":
            _strip(path)
            # Without its digest, damage is forgery; nothing tells of which model it is, nor, but for a number,
            # how many of the tokens a running state has seen.
            unknown = self.llama.info.memory is MemoryKind.RECURRENT
            if unknown or expected is Expected.REFUSED or "into " in hostile.steps:
                expected = Expected.FORGED
        try:
            info = self.llama.session_load(
                path, replay=door == "replay", trust_unverified=door == "bare"
            )
        except BridgeError as error:
            str(error)
            self._check_untouched()
            return type(error).__name__
        if expected is Expected.REFUSED:
            raise Problem("an altered file was accepted")
        if info.replayed is not None:
            expected = Expected.FAITHFUL  # whatever its KV data were, they were not taken
        if info.replayed is not None and "messages were rendered" in info.replayed:
            tokens = tuple(self.session.kv.conversation)  # its vocabulary is another
        else:
            tokens = self._check_claims(path, bare=door == "bare")
        if expected is Expected.FAITHFUL:
            self._check_faithful(tokens)
        else:
            with _only_bridge_errors():
                self.following()
        self.session.kv.check()  # what followed went past the ledger
        with _only_bridge_errors():
            self.llama.session_load(path, replay=door == "replay", trust_unverified=door == "bare")
            self._use(path, draw)
        kv = self.session.kv
        if self.engine.length != len(kv.tokens):
            raise Problem(f"after use: ledger of {len(kv.tokens)}, cache of {self.engine.length}")
        self.revive()
        replayed = "replayed" if info.replayed is not None else "accepted"
        return f"{replayed}, {expected.name.lower()}"

    def _look(self, path: Path, expected: Expected, draw: random.Random) -> str:
        """Ask what is in it, in the ways there are; nothing is taken over."""
        command = draw.random() < 0.3
        try:
            if command:
                arguments = ["session", "info", str(path), *draw.choice(([], ["--json"]))]
                result = CliRunner().invoke(app, arguments)
                if result.exception is not None and not isinstance(result.exception, SystemExit):
                    raise result.exception
                ok = result.exit_code == 0
            else:
                verification = self.llama.session_verify(path, deep=draw.random() < 0.5)
                str(verification)
                ok = verification.ok
        except BridgeError as error:
            str(error)
            ok = False
        if ok and expected is Expected.REFUSED:
            raise Problem("an altered file was called whole")
        self._check_untouched()
        return "looked at"

    def _check_untouched(self) -> None:
        live, session = self.live, self.session
        if tuple(session.kv.conversation) != live.tokens:
            raise Problem("a refused file changed the conversation")
        if tuple(session.messages) != live.messages or tuple(session.turns) != live.turns:
            raise Problem("a refused file changed the messages or turns")
        after = self.following()
        if after.tokens != self.after_live.tokens or not after.agrees(self.after_live):
            raise Problem("a refused file changed what the live session says next")
        self.revive()

    def _check_claims(self, path: Path, *, bare: bool) -> tuple[int, ...]:
        """The conversation is what the file says, read here by other code."""
        data = path.read_bytes()
        (n_held,) = struct.unpack_from("<I", data, 8)
        tokens = struct.unpack_from(f"<{n_held}i", data, 12)
        if not bare:
            n_state, n_manifest = struct.unpack_from("<QQ", data, len(data) - 32)
            manifest: dict[str, Any] = json.loads(data[n_state : n_state + n_manifest])
            tokens += tuple(manifest.get("owed", ()))
        kv = self.session.kv
        if tuple(kv.conversation) != tokens:
            raise Problem("the conversation is not that of the file")
        if self.engine.length != len(kv.tokens):
            raise Problem(f"ledger of {len(kv.tokens)} tokens, cache of {self.engine.length}")
        return tokens

    def _check_faithful(self, tokens: tuple[int, ...]) -> None:
        if len(tokens) + 4 > N_CTX:
            return
        after = self.following()
        expected = self._evaluated.get(tokens)
        if expected is None:
            expected = self._evaluated[tokens] = self.evaluated(tokens)
        if not after.agrees(expected):
            raise Problem(f"wrong text: {after.tokens} instead of {expected.tokens}")

    def _use(self, path: Path, draw: random.Random) -> None:
        """What people do with a session that they loaded."""
        llama = self.llama
        what = draw.randrange(6)
        if what == 0:
            llama.generate_continue("Go on.", sampling=_WARM)
        elif what == 1:
            llama.generate_continue(" and", sampling=_GREEDY, chat=False)
        elif what == 2:
            llama.session_rewind()
            llama.generate_continue("Again.", sampling=_GREEDY)
        elif what == 3:
            llama.regenerate(sampling=_GREEDY)
        elif what == 4:
            llama.session_save(path.with_suffix(".again"))
            llama.session_load(path.with_suffix(".again"))
        else:
            str((llama.session().messages, llama.session().n_turns))
            llama.generate_continue("Go on.", sampling=_GREEDY)


def _strip(path: Path) -> None:
    """Leave of a file what llama.cpp would have written, where it says where that ends."""
    data = path.read_bytes()
    if len(data) >= 48 and data[-48:-40] == b"LLBRIDGE":
        (n_state,) = struct.unpack_from("<Q", data, len(data) - 32)
        path.write_bytes(data[:n_state])


@contextmanager
def _only_bridge_errors() -> Iterator[None]:
    try:
        yield
    except BridgeError as error:
        str(error)


def _bound_memory() -> None:
    """Whatever allocates without bound gets a MemoryError, which is a problem."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _ROOM, used + _ROOM))


def _say(**line: object) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _run(folder: Path, seed: int, first: int, count: int, scratch: Path) -> None:
    warnings.simplefilter("error")
    seeds = read_seeds(folder)
    targets = {kind: _Target(_open(folder, kind)) for kind in KINDS}
    if sys.platform == "linux":
        _bound_memory()
    _say(ready=first)
    slowest = 0.0
    for number in range(first, first + count):
        hostile = mutant(seeds, seed, number)
        path = scratch / "hostile.session"
        path.write_bytes(hostile.data)
        _say(start=number)
        target = targets[hostile.kind]
        clock = time.monotonic()
        problem = ""
        outcome = "problem"
        try:
            outcome = target.try_file(path, hostile, random.Random(number))
        except Problem as found:
            problem = str(found)
        except Exception:
            problem = traceback.format_exc()
        seconds = time.monotonic() - clock
        slowest = max(slowest, seconds)
        if seconds > SECONDS:
            problem += f"took {seconds:.1f} s"
        if problem:
            _say(problem=problem, number=number)
            target.session.reset()
            target.revive()
        _say(done=number, outcome=outcome)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _say(end=peak, slowest=slowest)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name in ("seed", "first", "count"):
        parser.add_argument(name, type=int)
    parser.add_argument("scratch", type=Path)
    _run(**vars(parser.parse_args()))
