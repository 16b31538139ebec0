"""llama.cpp's own grammar sampler as a judge, in a process that it may end."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tools.random_model.cache import cache_folder
from tools.random_model.vocabularies import vocabulary
from wasm import source

__all__ = ["NativeJudge", "native_judge"]

ROOT = Path(__file__).parents[2]


class NativeJudge:
    """Asks one process after the other: each death is told, and a new one begins."""

    def __init__(self) -> None:
        vocabulary("gpt-2")  # fetched, if this machine has none yet: its tokens are bytes
        folder = cache_folder("") / f"vocabularies-{source.VERSION}"
        self._command = [
            sys.executable,
            "-m",
            "tests.structured.native_worker",
            str(folder / "ggml-vocab-gpt-2.gguf"),
        ]
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()

    def ask(self, grammar: str, texts: list[str], timeout: float = 10) -> list[bool] | None:
        """Which of the texts llama.cpp accepts; None if it does not take the grammar.

        Raises:
            AssertionError: its process died, or gave no answer in time.
        """
        process = self._running()
        assert process.stdin
        process.stdin.write(json.dumps({"grammar": grammar, "texts": texts}) + "\n")
        process.stdin.flush()
        try:
            line = self._answers.get(timeout=timeout)
        except queue.Empty:
            line = ""
        if not line:
            self._process = None
            code = _end(process)
            raise AssertionError(f"llama.cpp died or hung (status {code}) on:\n{grammar[:2000]}")
        answer = json.loads(line)
        return answer["accepted"] if answer["loaded"] else None

    def close(self) -> None:
        if self._process is not None:
            _end(self._process)
            self._process = None

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
            )
            self._answers = queue.Queue()
            threading.Thread(target=_read, args=(self._process, self._answers), daemon=True).start()
        return self._process


def _end(process: subprocess.Popen[str]) -> int:
    assert process.stdin
    with suppress(BrokenPipeError):
        process.stdin.close()
    process.kill()
    return process.wait()


def _read(process: subprocess.Popen[str], answers: queue.Queue[str]) -> None:
    assert process.stdout
    with process.stdout:
        for line in process.stdout:
            answers.put(line)
    answers.put("")


@contextmanager
def native_judge() -> Iterator[NativeJudge]:
    """One that is closed at the end."""
    judge = NativeJudge()
    try:
        yield judge
    finally:
        judge.close()
