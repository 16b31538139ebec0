"""The kernels of llama.wasm: products with packed weights against ggml's own, one thread, in wasmtime."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import gguf
import numpy as np

from llama_bridge.models.source import open_model
from llama_bridge_wasm import artifact
from llama_bridge_wasm.abi import CHECK_PARAMS, CheckOp, Guest
from llama_bridge_wasm.hosts.wasi import GuestFile
from llama_bridge_wasm.hosts.wasmtime.guest import WasmtimeGuest

from .measure import Spread, ratio, seconds, spread
from .report import Report

__all__ = ["measure_kernels"]

_FORMATS = ("F16", "Q4_0", "Q5_0", "Q8_0", "Q4_K", "Q5_K", "Q6_K")
_SCALES = {"Q4_0": (0,), "Q5_0": (0,), "Q8_0": (0,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
_SHAPES = ((256, 8), (896, 896), (896, 4864), (4864, 896), (2048, 2048))
_TOKENS = (1, 2, 3, 4, 5, 8, 16, 64, 256)
_MEMORY = 1 << 30


@dataclass(frozen=True)
class _Found:
    """The time of one product: seconds with packed weights, and the ratio to the stock kernel."""

    where: str
    macs: int
    packed: Spread
    ratio: Spread

    def __str__(self) -> str:
        return f"{self.macs / self.packed.median / 1e9:.1f} ({1 / self.ratio.median:.2f})"


def measure_kernels(
    report: Report,
    *,
    rounds: int = 5,
    shapes: tuple[tuple[int, int], ...] = _SHAPES,
    tokens: tuple[int, ...] = _TOKENS,
) -> None:
    """Measure every format at every shape; a shape is values per row of weights, and rows."""
    guest = WasmtimeGuest(artifact.DEFAULT_PATH, GuestFile.at(open_model("demo").path), _MEMORY)
    everything: list[_Found] = []
    for name in _FORMATS:
        print(f"kernels: {name}", file=sys.stderr, flush=True)
        rows = []
        for k, n_rows in shapes:
            if k % (256 if name.endswith("_K") else 32) != 0:
                continue
            found = list(_measure(guest, name, k, n_rows, tokens, rounds))
            rows.append([f"{k:,} by {n_rows:,}", *map(str, found)])
            everything += found
        report.table(
            f"Products with {name}, {rounds} rounds: 10⁹ multiplications a second (times the stock kernel's)",
            ["weights", *(f"{n} {'token' if n == 1 else 'tokens'}" for n in tokens)],
            rows,
        )
    guest.close()
    worst = max(everything, key=lambda found: found.ratio.median)
    slower = [found for found in everything if found.ratio.low > 1]  # by more than rounds differ
    report.bound(
        "no shape slower than the stock kernel",
        worst.ratio.median,
        not slower,
        f"{len(slower)} of {len(everything)}; at worst {worst.ratio.median:.2f} times its time, {worst.where}",
    )


def _measure(
    guest: Guest, name: str, k: int, rows: int, tokens: tuple[int, ...], rounds: int
) -> Iterator[_Found]:
    kind = gguf.GGMLQuantizationType[name]
    x = np.random.default_rng(0).standard_normal((max(tokens), k)).astype(np.float32)
    with (
        _copied(guest, _weights(name, k, rows)) as weights,
        _copied(guest, x.tobytes()) as activations,
        _copied(guest, np.array([weights, activations], np.uint32).tobytes()) as inputs,
        _copied(guest, bytes(4 * rows * max(tokens))) as out,
    ):
        for n in tokens:
            macs = k * rows * n
            repeat = min(10_000, 1 + 40_000_000 // macs)  # a few milliseconds
            times: dict[bool, list[float]] = {True: [], False: []}
            for turn in range(rounds):
                for packed in (True, False) if turn % 2 else (False, True):
                    # Packing and copying are done once, however often the product is computed.
                    both = []
                    for count in (0, repeat):
                        params = CHECK_PARAMS.pack(
                            *(CheckOp.PRODUCT, int(kind), packed, count, 1),
                            *(k, rows, n, 0, 0, 0, 0.0, 0.0, 0.0),
                        )
                        with _copied(guest, params) as given:
                            both.append(seconds(partial(_check, guest, packed, given, inputs, out)))
                    times[packed].append(max(1e-9, both[1] - both[0]) / repeat)
            where = f"{name} {k:,} by {rows:,}, {n} tokens"
            yield _Found(where, macs, spread(times[True]), ratio(times[True], times[False]))


def _check(guest: Guest, packed: bool, params: int, inputs: int, out: int) -> None:
    status = guest.call("lb_check", params, inputs, out)
    if status != packed:
        raise RuntimeError(f"lb_check returned {status} instead of {int(packed)}")


@contextmanager
def _copied(guest: Guest, data: bytes) -> Iterator[int]:
    pointer = guest.call("lb_alloc", len(data)) & 0xFFFFFFFF
    guest.write(pointer, data)
    yield pointer
    guest.call("lb_free", pointer)


def _weights(name: str, k: int, rows: int) -> bytes:
    """Random codes, and scales of ordinary size, because others are slow."""
    rng = np.random.default_rng(1)
    if name == "F16":
        return rng.standard_normal((rows, k)).astype(np.float16).tobytes()
    values, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    blocks = rng.integers(0, 256, (rows * k // values, size), np.uint8)
    for at in _SCALES[name]:
        blocks[:, at : at + 2] = np.frombuffer(np.float16(0.01).tobytes(), np.uint8)
    return blocks.tobytes()
