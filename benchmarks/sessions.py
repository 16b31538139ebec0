"""Saving and loading a session, against plain writes and reads of the same bytes in the same folder."""

from __future__ import annotations

import ctypes
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from llama_bridge import Capability, LlamaBridge, ModelParams, SamplingParams

from .contenders import LlamaClass, RawLoop, Setting, text_of
from .measure import alternate, ratio, seconds, spread
from .report import Report, ms

__all__ = ["measure_sessions"]

_SAVE, _WRITE, _RAW_SAVE = "session_save", "plain write + fsync", "llama_state_seq_save_file"
_LOAD, _READ, _RAW_LOAD = "session_load", "plain read", "llama_state_seq_load_file"


def measure_sessions(
    report: Report, model: Path, *, n_threads: int, rounds: int, history: int, folder: Path | None
) -> None:
    """Native only: no other backend keeps sessions. ``folder`` is where the files go for a while."""
    params = ModelParams(n_ctx=history + 64, n_threads=n_threads)
    setting = Setting(model, history + 64, n_threads)
    with (
        TemporaryDirectory(dir=folder) as name,
        LlamaBridge(model, backend="native", params=params) as llama,
    ):
        if Capability.SESSION_PERSISTENCE not in llama.capabilities:
            return
        text = text_of(history - 1, lambda text: len(llama.tokenize(text)))
        llama.generate(text, params=SamplingParams(max_tokens=1, temperature=0), chat=False)
        session, plain, bare = (Path(name, n) for n in ("a.session", "plain", "bare"))
        info = llama.session_save(session)
        content = session.read_bytes()
        raw = RawLoop(setting)
        tokens = (ctypes.c_int32 * info.n_tokens)(*llama.session.tokens)
        count = ctypes.c_size_t()
        lib = raw.lib

        def raw_load() -> None:
            # llama.cpp itself reads our file: it ignores what follows its own bytes.
            path = os.fsencode(session)
            done = lib.llama_state_seq_load_file(
                raw.context, path, 0, tokens, info.n_tokens, ctypes.byref(count)
            )
            assert done

        def raw_save() -> None:
            done = lib.llama_state_seq_save_file(
                raw.context, os.fsencode(bare), 0, tokens, info.n_tokens
            )
            assert done

        def write() -> None:
            with plain.open("wb", buffering=0) as file:
                file.write(content)
                os.fsync(file.fileno())

        raw_load()
        found = alternate(
            {
                _SAVE: lambda: _fresh(session, lambda: llama.session_save(session)),
                _WRITE: lambda: _fresh(plain, write),
                _RAW_SAVE: lambda: _fresh(bare, raw_save),
                _LOAD: lambda: seconds(lambda: llama.session_load(session)),
                _READ: lambda: seconds(plain.read_bytes),
                _RAW_LOAD: lambda: seconds(raw_load),
            },
            rounds,
            "sessions",
        )
        pickled = _pickled_state(setting, session, info.n_tokens, Path(name, "pickle"))
        raw.close()

    save, load = ratio(found[_SAVE], found[_WRITE]), ratio(found[_LOAD], found[_READ])
    size = f"{info.n_bytes / 1e6:.1f}"
    rows = [
        [name, ms(spread(times)), f"{ratio(times, found[base]).median:.2f}", size]
        for names, base in (
            ((_SAVE, _WRITE, _RAW_SAVE), _WRITE),
            ((_LOAD, _READ, _RAW_LOAD), _READ),
        )
        for name in names
        for times in [found[name]]
    ]
    for what, (time, n_bytes), base in zip(
        ("Llama.save_state + pickle", "pickle + Llama.load_state"),
        pickled,
        (_WRITE, _READ),
        strict=True,
    ):
        share = time / spread(found[base]).median
        rows.append([what, f"{time * 1e3:.1f}", f"{share:.2f}", f"{n_bytes / 1e6:.1f}"])
    report.table(
        f"Sessions: {info.n_tokens:,} tokens, {rounds} rounds",
        ["", "ms", "/ plain", "MB"],
        rows,
        "Medians with quartiles. llama.cpp's own file has no digest, no fsync, no identity; written in place.",
    )
    report.bound(
        "save in at most 2.5 times a plain write with fsync",
        save.median,
        save.median <= 2.5,
        f"{save.median:.2f} ({save.low:.2f} to {save.high:.2f})",
    )
    report.bound(
        "load in at most 3 times a plain read",
        load.median,
        load.median <= 3.0,
        f"{load.median:.2f} ({load.low:.2f} to {load.high:.2f})",
    )


def _fresh(path: Path, work: Callable[[], object]) -> float:
    """Seconds to write a file that is not there yet: to free an old one's blocks is another matter."""
    path.unlink(missing_ok=True)
    return seconds(work)


def _pickled_state(
    setting: Setting, session: Path, n_tokens: int, path: Path
) -> tuple[tuple[float, int], tuple[float, int]]:
    """What users of llama-cpp-python do: seconds and bytes of saving, then of loading, once each."""
    contender = LlamaClass(setting)
    llama, lib = contender.llama, contender.lib
    ledger, count = (ctypes.c_int32 * n_tokens)(), ctypes.c_size_t()
    assert lib.llama_state_seq_load_file(
        llama.ctx, os.fsencode(session), 0, ledger, n_tokens, ctypes.byref(count)
    )
    llama.input_ids[:n_tokens], llama.n_tokens = ledger[:], n_tokens

    def save() -> None:
        with path.open("wb") as file:
            pickle.dump(llama.save_state(), file)

    def load() -> None:
        with path.open("rb") as file:
            llama.load_state(pickle.load(file))

    saved = seconds(save), path.stat().st_size
    loaded = seconds(load), path.stat().st_size
    contender.close()
    return saved, loaded
