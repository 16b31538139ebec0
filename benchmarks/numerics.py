"""The distance of llama.wasm's logits from native's, beside that of llama.cpp's own WebAssembly kernels."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llama_bridge import LlamaBridge, ModelParams
from llama_bridge.runtime import Backend
from llama_bridge_wasm import artifact
from llama_bridge_wasm.backend import WasmBackend

from .inside import engine_of
from .report import Report

__all__ = [
    "EXACT",
    "PROMPTS",
    "Logits",
    "at_once",
    "distance",
    "measure_numerics",
    "token_by_token",
]

Logits: TypeAlias = NDArray[np.float64]
"""[positions][vocabulary]"""

EXACT = ModelParams(type_k="f32", type_v="f32", flash_attn=False)
"""For native: single precision in all of attention."""

PROMPTS = (
    "Hello! My name is Zorblax.",
    "What is my name?",
    "Who are you?",
    "What is a KV cache?",
    "Thanks!",
    "I live in Quellmoor and my pet is called Bixby.",
    "Explain coroutines in simple words.",
    "Wie heißt du? 日本語",
)
_TURNS = [f"<|user|>\n{prompt}<|end|>\n<|assistant|>\n" for prompt in PROMPTS]
_STEP = 4
_BUILDS: tuple[tuple[str, ModelParams | None], ...] = (
    ("native", None),
    ("native", EXACT),
    ("wasm", None),
)


def token_by_token(backend: str | Backend, params: ModelParams | None = None) -> Logits:
    """Logits after each prefix of the prompts, alone and concatenated, decoded token by token."""
    found = []
    with LlamaBridge("demo", backend=backend, params=params) as llama:
        engine = engine_of(llama)
        for text in [*_TURNS, "".join(_TURNS)]:
            engine.clear()
            for token in llama.tokenize(text, parse_special=True):
                engine.decode([token])
                found.append(np.array(engine.logits(), np.float64))
    return np.array(found)


def at_once(backend: str | Backend, params: ModelParams | None = None) -> Logits:
    """Logits after prefixes of 64 tokens and more, each prefilled in one batch, where llama.cpp uses another attention."""
    found = []
    with LlamaBridge("demo", backend=backend, params=params) as llama:
        engine = engine_of(llama)
        tokens = llama.tokenize("".join(_TURNS), parse_special=True)
        for n in range(64, len(tokens) + 1, _STEP):
            engine.clear()
            engine.decode(tokens[:n])
            found.append(np.array(engine.logits(), np.float64))
    return np.array(found)


def distance(these: Logits, those: Logits) -> float:
    """Root mean square of the differences."""
    return float(np.sqrt(np.mean((these - those) ** 2)))


def measure_numerics(report: Report, *, stock: Path | None = None) -> None:
    """A row per build. Without ``stock``, builds a module with llama.cpp's own kernels, which takes minutes once."""
    ways = (token_by_token, at_once)
    native, exact, wasm = ([way(b, p) for way in ways] for b, p in _BUILDS)
    with _stock(stock) as module:
        others = [way(WasmBackend(module)) for way in ways]
    rows = {"native, exact attention": exact, "llama-bridge wasm": wasm, "stock kernels": others}
    report.table(
        "Numerics: logits of the demo model",
        ["root mean square to", "native", "exact", "64 at once: native", "exact"],
        [
            [
                name,
                *(
                    f"{distance(logits[i], to[i]):.4f}"
                    for i in range(len(ways))
                    for to in (native, exact)
                ),
            ]
            for name, logits in rows.items()
        ],
        "The first two token by token, the others after prefills of 64 tokens and more.",
    )
    ratios = [
        distance(ours, n) / distance(theirs, n)
        for ours, theirs, n in zip(wasm, others, native, strict=True)
    ]
    report.bound(
        "wasm logits no further from native's than those of the stock kernels",
        max(ratios),
        max(ratios) <= 1,
        " and ".join(f"{ratio:.2f}" for ratio in ratios) + " of their distance",
    )


@contextmanager
def _stock(given: Path | None) -> Iterator[Path]:
    if given:
        yield given
        return
    build = Path(__file__).parents[1] / "wasm" / "build.py"
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder) / artifact.DEFAULT_PATH.name
        command = [sys.executable, str(build), "--stock", "--output", str(module)]
        subprocess.run(command, check=True, stdout=sys.stderr)
        yield module
