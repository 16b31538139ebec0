"""The parent process: starts workers, counts crashes and hangs, keeps the files that caused them."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.fuzz.mutations import mutant, read_seeds
from tests.fuzz.report import Report
from tests.fuzz.worker import SECONDS, prepare

__all__ = ["fuzz"]

_ROOT = Path(__file__).parents[2]
_PATIENCE = 4 * SECONDS
"""The worker measures its own time; this is for one that does not come back at all."""
_START = 120.0


def fuzz(
    count: int,
    *,
    seed: int = 0,
    first: int = 0,
    jobs: int = 1,
    keep: Path | None = None,
    progress: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Load so many hostile files, ``first`` and following; ``keep`` gets those that found something."""
    started = time.monotonic()
    report = Report()
    lock = threading.Lock()
    with tempfile.TemporaryDirectory(prefix="llama-bridge-fuzz-") as name:
        folder = Path(name)
        prepare(folder)

        def watch(job: int) -> None:
            number, end = first + count * job // jobs, first + count * (job + 1) // jobs
            scratch = folder / f"job{job}"
            scratch.mkdir()
            while number < end:
                number = _watch_worker(folder, scratch, seed, number, end, told)

        def told(line: dict[str, Any]) -> None:
            with lock:
                _take(report, line)
                report.seconds = time.monotonic() - started
                progress(report)

        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(watch, range(jobs)))
        if keep is not None and report.problems:
            _keep(keep, folder, seed, report)
    report.seconds = time.monotonic() - started
    return report


def _take(report: Report, line: dict[str, Any]) -> None:
    if "done" in line:
        report.files += 1
        report.outcomes[line["outcome"]] += 1
    elif "problem" in line:
        report.problems.append((line["number"], line["problem"]))
    elif "end" in line:
        report.peak_mib = max(report.peak_mib, line["end"] // 1024)
        report.slowest = max(report.slowest, line["slowest"])


def _watch_worker(
    folder: Path,
    scratch: Path,
    seed: int,
    first: int,
    end: int,
    told: Callable[[dict[str, Any]], None],
) -> int:
    """Run one worker until it ends; returns the number of the file to go on with."""
    arguments = [str(folder), str(seed), str(first), str(end - first), str(scratch)]
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.fuzz.worker", *arguments]
    errors = (scratch / "errors.txt").open("w+")
    child = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert child.stdout is not None
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def pump() -> None:
        assert child.stdout is not None
        for text in child.stdout:
            lines.put(text)
        lines.put("")

    reader = threading.Thread(target=pump, daemon=True)
    reader.start()
    number, patience = first - 1, _START
    try:
        while True:
            try:
                text = lines.get(timeout=patience)
            except queue.Empty:
                told({"problem": f"hung for {patience} s", "number": number})
                told({"done": number, "outcome": "hang"})
                return number + 1
            patience = _PATIENCE
            if not text:
                break
            line: dict[str, Any] = json.loads(text)
            told(line)
            if "start" in line:
                number = line["start"]
            elif "end" in line:
                return end
        code = child.wait()
        errors.seek(0)
        if number < first:
            raise RuntimeError(f"the worker did not start:\n{errors.read()}")
        told({"problem": f"exit status {code}\n{errors.read()[-3000:]}", "number": number})
        told({"done": number, "outcome": "crash"})
        return number + 1
    finally:
        child.kill()
        child.wait()
        reader.join()
        child.stdout.close()
        errors.close()


def _keep(keep: Path, folder: Path, seed: int, report: Report) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    seeds = read_seeds(folder)
    for number, problem in report.problems[:100]:
        hostile = mutant(seeds, seed, number)
        path = keep / f"{seed}-{number}-{hostile.kind}.session"
        path.write_bytes(hostile.data)
        path.with_suffix(".txt").write_text(
            f"{hostile.steps}\n{hostile.expected.name}\n{problem}\n"
        )
