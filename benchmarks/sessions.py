"""Saving and loading a session, against plain writes and reads of the same bytes in the same folder."""

from __future__ import annotations

import ctypes
import os
import pickle
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llama_bridge import SamplingParams

from .contenders import Bridge, LlamaClass, RawLoop, Setting, text_of
from .inside import engine_of
from .measure import Spread, alternate, ratio, seconds, spread
from .report import Report, ms
from .restart import LOAD, READ, restart

__all__ = ["measure_sessions"]

_SAVE, _WRITE, _RAW_SAVE = "session_save", "plain write + fsync", "llama_state_seq_save_file"
_LOAD, _READ, _RAW_LOAD = "session_load", "plain read", "llama_state_seq_load_file"
_FIRST = "session_load and first token"
_ONE = SamplingParams(max_tokens=1, temperature=0)


def measure_sessions(
    report: Report,
    model: Path,
    *,
    n_threads: int,
    rounds: int,
    histories: list[int],
    folder: Path | None,
    judged: int = 2048,
) -> None:
    """Native only: no other backend keeps sessions. ``folder`` is for temporary files."""
    setting = Setting(model, max(histories) + 64, n_threads)
    with ExitStack() as opened:
        place = Path(opened.enter_context(TemporaryDirectory(dir=folder)))
        bridge = Bridge("native", setting)
        opened.callback(bridge.close)
        raw = RawLoop(setting, bridge.weights)
        opened.callback(raw.close)
        for history in histories:
            _measure(
                report, bridge, raw, place, rounds, history, setting, pickled=history == judged
            )


def _measure(
    report: Report,
    bridge: Bridge,
    raw: RawLoop,
    place: Path,
    rounds: int,
    history: int,
    setting: Setting,
    *,
    pickled: bool,
) -> None:
    llama = bridge.llama
    text = text_of(history - 1, lambda text: len(llama.tokenize(text)))
    llama.session_reset()  # or the prompt's beginning could still be in the KV cache
    prefill = llama.generate(text, sampling=_ONE, chat=False).usage.prompt_seconds
    session, plain = place / "a.session", place / "plain"
    info = llama.session_save(session)
    content = session.read_bytes()
    kv_bytes = len(engine_of(llama).state_get())
    state = _State(raw.lib, raw.context, info.n_tokens)
    state.load(session)

    def restore_and_answer() -> None:
        llama.session_load(session)
        llama.generate_continue(" and", sampling=_ONE, chat=False)

    found = alternate(
        {
            _SAVE: lambda: _new(session, lambda: llama.session_save(session)),
            _WRITE: lambda: _new(plain, lambda: _write(plain, content)),
            _RAW_SAVE: lambda: seconds(lambda: state.save(place / "bare")),
            _LOAD: lambda: seconds(lambda: llama.session_load(session)),
            _READ: lambda: seconds(plain.read_bytes),
            _RAW_LOAD: lambda: seconds(lambda: state.load(session)),
            _FIRST: lambda: seconds(restore_and_answer),
            # Load the file again for the others: the one above left a turn more in the cache.
            "": lambda: seconds(lambda: llama.session_load(session)),
        },
        rounds,
        f"sessions, {history}",
    )
    found |= restart(setting.model, session, plain, setting.n_ctx, rounds)
    rows = []
    for base, names in (
        (_WRITE, (_SAVE, _WRITE, _RAW_SAVE)),
        (READ, (LOAD, READ)),
        (_READ, (_LOAD, _READ, _RAW_LOAD)),
    ):
        for name in names:
            share = ratio(found[name], found[base]).median
            size = f"{info.n_bytes / 1e6:.1f}"
            rows.append([name, ms(spread(found[name])), f"{share:.2f}", size])
    if pickled:
        rows += _users_rows(bridge, setting, session, info.n_tokens, place, found)
    first = spread(found[_FIRST])
    rows.append([_FIRST, ms(first), "", ""])
    rows.append(["fresh prefill", f"{prefill * 1e3:.1f}", "", ""])
    report.table(
        f"Sessions: {info.n_tokens:,} tokens, {rounds} rounds",
        ["", "ms", "/ plain", "MB"],
        rows,
        "After a restart: the first load of a new process, memory included. Otherwise in a process that has loaded before.\n"
        "  llama.cpp's own file has no digest, no identity, no fsync, and is written in place.",
    )
    at = f"{history:,} tokens:"
    _bound(report, f"{at} save / plain write with fsync", 1.5, ratio(found[_SAVE], found[_WRITE]))
    _bound(report, f"{at} load after a restart / plain read", 2.0, ratio(found[LOAD], found[READ]))
    _bound(report, f"{at} load once more / plain read", 2.0, ratio(found[_LOAD], found[_READ]))
    more = info.n_bytes - kv_bytes
    report.bound(
        f"{at} file at most KV + 64 KiB", more, more <= 64 << 10, f"KV + {more / 1024:.1f} KiB"
    )
    if pickled:
        times = prefill / first.median
        report.bound(
            f"{at} restore and first token 50 times faster than the prefill",
            times,
            times >= 50,
            f"{times:.0f} times",
        )


def _bound(report: Report, promise: str, limit: float, measured: Spread) -> None:
    shown = f"{measured.median:.2f} ({measured.low:.2f} to {measured.high:.2f})"
    ok = measured.median <= limit
    report.bound(f"{promise} at most {limit:g}", measured.median, ok, shown)


def _users_rows(
    bridge: Bridge,
    setting: Setting,
    session: Path,
    n_tokens: int,
    place: Path,
    found: dict[str, list[float]],
) -> list[list[str]]:
    """Sessions as users of llama-cpp-python save them today."""
    users = LlamaClass(setting, bridge.weights)
    try:
        save, load, size = _pickled_state(users, session, n_tokens, place / "pickle")
    finally:
        users.close()
    rows = []
    for name, base, time in (
        ("Llama.save_state + pickle", _WRITE, save),
        ("pickle + Llama.load_state", _READ, load),
    ):
        share = time / spread(found[base]).median
        rows.append([name, f"{time * 1e3:.1f}", f"{share:.2f}", f"{size / 1e6:.1f}"])
    return rows


class _State:
    """llama.cpp's own sequence files, through ctypes. It can load ours: it ignores what follows its part."""

    def __init__(self, lib: Any, context: Any, n_tokens: int) -> None:
        self._lib, self._context = lib, context
        self.tokens = (ctypes.c_int32 * n_tokens)()

    def save(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        assert self._lib.llama_state_seq_save_file(
            self._context, os.fsencode(path), 0, self.tokens, len(self.tokens)
        )

    def load(self, path: Path) -> None:
        count = ctypes.c_size_t()
        assert self._lib.llama_state_seq_load_file(
            self._context, os.fsencode(path), 0, self.tokens, len(self.tokens), ctypes.byref(count)
        )


def _new(path: Path, work: Callable[[], object]) -> float:
    """Seconds to write a new file, so that freeing an old one's blocks does not count.

    Earlier unsynced writes must not count either: an fsync of one file waits for the journal of all.
    """
    path.unlink(missing_ok=True)
    if hasattr(os, "sync"):  # not on Windows
        os.sync()
    return seconds(work)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb", buffering=0) as file:
        file.write(content)
        os.fsync(file.fileno())


def _pickled_state(
    contender: LlamaClass, session: Path, n_tokens: int, path: Path
) -> tuple[float, float, int]:
    """As users of llama-cpp-python do it: seconds to save and to load, once each, and bytes."""
    llama = contender.llama
    state = _State(contender.lib, llama.ctx, n_tokens)
    state.load(session)
    llama.input_ids[:n_tokens], llama.n_tokens = state.tokens[:], n_tokens

    def save() -> None:
        with path.open("wb") as file:
            pickle.dump(llama.save_state(), file)

    def load() -> None:
        with path.open("rb") as file:
            llama.load_state(pickle.load(file))

    return seconds(save), seconds(load), path.stat().st_size
