"""Computes the results to compare: ``python -m tools.arm64.probe FOLDER [--demo] [NAME=MODEL ...]``.

Each result is a file in the folder: raw numbers in single precision (``.f32``) or text (``.txt``). All inputs are made
of whole numbers, so that they are the same on every machine. It does not use numpy, which would be half of the download
for ARM64.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from llama_bridge import LlamaBridge, ModelParams, SamplingParams
from llama_bridge.engine import Engine
from llama_bridge.models.source import open_model
from llama_bridge_wasm import BACKEND
from llama_bridge_wasm.abi import CHECK_PARAMS, CheckOp, Guest
from llama_bridge_wasm.engine.byte_sums import FORMS
from llama_bridge_wasm.engine.wasm_engine import WasmEngine

__all__ = ["main"]

LENGTHS = (1, 3, 40, 100)
"""Tokens of a prefill: one alone, fewer than fit one group, and more than one group."""
STEPS = 5
PARAMS = ModelParams(n_ctx=512, n_threads=1)

PROMPTS = (
    "Hello! My name is Zorblax.",
    "What is my name?",
    "I live in Marrowick.",
    "What is a KV cache?",
    "Who are you?",
    "héllo wörld ☃ 日本語",
    "The quick brown fox jumps over the lazy dog. " * 6,
)
GREEDY = SamplingParams(temperature=0, max_tokens=48)
LIVELY = SamplingParams(temperature=0.9, seed=5, max_tokens=48)


@dataclass(frozen=True, slots=True)
class Format:
    """A weight format: its number in ggml, weights and bytes per block, and the offsets of half-precision scales."""

    name: str
    type: int
    weights: int
    size: int
    scales: tuple[int, ...]


FORMATS = (
    Format("f16", 1, 1, 2, (0,)),
    Format("q4_0", 2, 32, 18, (0,)),
    Format("q5_0", 6, 32, 22, (0,)),
    Format("q8_0", 8, 32, 34, (0,)),
    Format("q4_k", 12, 256, 144, (0, 2)),
    Format("q5_k", 13, 256, 176, (0, 2)),
    Format("q6_k", 14, 256, 210, (208,)),
)
INFINITY, NAN = float("inf"), float("nan")
SPECIAL = (INFINITY, -INFINITY, NAN, 3e38, -3e38, 1e30, 1e-40, 0.0)
"""Activations that a kernel has to round; not all can be."""


def main(arguments: Sequence[str]) -> None:
    """Write all results to the folder.

    Args:
        arguments: the folder; ``--demo`` for more of the demo model; models as ``name=path``.
    """
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    _texts(folder, threads=1)
    _logits(folder, "demo", "demo", PARAMS)
    _products(folder)
    if "--demo" in arguments:
        _texts(folder, threads=2)
        _logits(folder, "demo-threads", "demo", replace(PARAMS, n_threads=2))
        for kind in ("f32", "q8_0", "q4_0"):
            params = ModelParams(n_ctx=512, n_threads=1, type_k=kind, type_v=kind)
            _logits(folder, f"demo-kv-{kind}", "demo", params)
        _logits(folder, "demo-no-flash", "demo", replace(PARAMS, flash_attn=False))
    for argument in arguments[1:]:
        name, equals, model = argument.partition("=")
        if equals:
            _logits(folder, name, model, PARAMS)


def _logits(folder: Path, name: str, model: str, params: ModelParams) -> None:
    """Logits after prefills of several lengths, and after steps that follow, alternately greedy and random."""
    engine = BACKEND.load(open_model(model), params)
    rng = Random(99)
    for length in LENGTHS:
        engine.clear()
        engine.decode([rng.randrange(3, engine.info.n_vocab) for _ in range(length)])
        for step in range(STEPS):
            found = _keep_logits(folder / f"{name}-after-{length}-and-{step}.f32", engine)
            drawn = max(range(len(found)), key=found.__getitem__)
            engine.decode([drawn if step % 2 else rng.randrange(3, engine.info.n_vocab)])
    engine.close()


def _keep_logits(path: Path, engine: Engine) -> Sequence[float]:
    logits = engine.logits()
    path.write_bytes(bytes(logits))
    return logits.tolist()


def _texts(folder: Path, threads: int) -> None:
    """Answers of the demo model, greedy and sampled."""
    said: list[list[str]] = []
    with LlamaBridge("demo", backend="wasm", params=ModelParams(n_threads=threads)) as llama:
        for sampling in (GREEDY, LIVELY):
            for prompt in PROMPTS:
                llama.session_reset()
                said.append([prompt, llama.generate(prompt, sampling=sampling).text])
    text = json.dumps(said, ensure_ascii=False, indent=1)
    (folder / f"demo-{threads}-threads.txt").write_text(text, encoding="utf-8")


def _products(folder: Path) -> None:
    """Every product kernel, one activation function and softmax, with ordinary and special numbers."""
    engine = BACKEND.load(open_model("demo"), PARAMS)
    assert isinstance(engine, WasmEngine)
    rng = Random(7)
    for form, name in enumerate(FORMS):
        engine.guest.call("lb_byte_sums", form)
        for format in FORMATS:
            for kind, tokens in _activations(rng, width=512):
                for n in (1, 5):  # four at once, then the last one alone
                    found = _multiply(engine.guest, format, rng, tokens[:n])
                    (folder / f"product-{format.name}-{name}-{kind}-{n}.f32").write_bytes(found)
    values = [*SPECIAL, *(rng.randrange(-4000, 4000) / 32 for _ in range(90))]
    for op in (CheckOp.SILU, CheckOp.SOFTMAX):
        for kind, row in (("special", values), ("ordinary", values[len(SPECIAL) :])):
            packed = struct.pack(f"<{len(row)}f", *row)
            found = _check(engine.guest, op, [packed], len(row), sizes=(len(row), 1))
            (folder / f"{op.name.lower()}-{kind}.f32").write_bytes(found)
    engine.close()


def _activations(rng: Random, width: int) -> Iterator[tuple[str, list[list[float]]]]:
    """Five tokens, then five with one special activation each."""
    tokens = [[rng.randrange(-1000, 1000) / 256 for _ in range(width)] for _ in range(5)]
    yield "ordinary", tokens
    for value in SPECIAL:
        for token in tokens:
            token[rng.randrange(width)] = value
        yield f"with-{value}".replace("--", "-minus-"), [list(token) for token in tokens]
        tokens = [[rng.randrange(-1000, 1000) / 256 for _ in range(width)] for _ in range(5)]


def _multiply(guest: Guest, format: Format, rng: Random, tokens: list[list[float]]) -> bytes:
    """Multiply random weights, 16 rows, with these activations."""
    width, rows = len(tokens[0]), 16
    weights = bytearray(rng.randbytes(rows * width // format.weights * format.size))
    for block in range(0, len(weights), format.size):
        for scale in format.scales:
            struct.pack_into("<e", weights, block + scale, rng.randrange(-64, 64) / 1024)
    packed = b"".join(struct.pack(f"<{width}f", *token) for token in tokens)
    sizes = (width, rows, len(tokens))
    inputs = [bytes(weights), packed]
    return _check(guest, CheckOp.PRODUCT, inputs, rows * len(tokens), sizes=sizes, type=format.type)


def _check(
    guest: Guest, op: CheckOp, inputs: list[bytes], n: int, *, sizes: Sequence[int], type: int = 0
) -> bytes:
    """Run one operation in the guest and return its ``n`` numbers."""
    pointers = [_put(guest, data) for data in inputs]
    listed = _put(guest, struct.pack(f"<{len(pointers)}I", *pointers))
    padded = [*sizes, *[0] * (6 - len(sizes))]
    params = _put(guest, CHECK_PARAMS.pack(op, type, 1, 1, 1, *padded, 0.0, 0.0, 0.0))
    out = _put(guest, bytes(4 * n))
    status = guest.call("lb_check", params, listed, out)
    if status not in (0, 1):
        raise RuntimeError(f"{op.name}: status {status}")
    found = bytes(guest.read(out, 4 * n))
    for pointer in (*pointers, listed, params, out):
        guest.call("lb_free", pointer)
    return found


def _put(guest: Guest, data: bytes) -> int:
    pointer = guest.call("lb_alloc", len(data)) & 0xFFFFFFFF
    guest.write(pointer, data)
    return pointer


if __name__ == "__main__":
    main(sys.argv[1:])
