"""What the tests of the kernels share: one operation in the guest, weight formats, and references in float64."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from llama_bridge_wasm.abi import CHECK_PARAMS, CheckOp, Guest
from llama_bridge_wasm.engine.byte_sums import FORMS

from ..conftest import put

Array = npt.NDArray[Any]
Type = gguf.GGMLQuantizationType


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of weights.

    Attributes:
        type: as in a file.
        halves: where in a block of it half-precision numbers stand.
        unit: what the length of a row is a multiple of.
        activations: values that share a scale.
        wide: whether codes of weights and activations have sixteen bits.
    """

    type: Type
    halves: tuple[int, ...]
    unit: int
    activations: int
    wide: bool = False

    def __str__(self) -> str:
        return str(self.type.name)

    @property
    def row_size(self) -> int:
        """Bytes of ``unit`` weights."""
        values, size = gguf.GGML_QUANT_SIZES[self.type]
        return self.unit // values * size


FORMATS = (
    Format(Type.F16, (), 32, 32, wide=True),
    Format(Type.Q4_0, (0,), 32, 32),
    Format(Type.Q5_0, (0,), 32, 32),
    Format(Type.Q8_0, (0,), 32, 32),
    Format(Type.Q4_K, (0, 2), 256, 256),
    Format(Type.Q5_K, (0, 2), 256, 256),
    Format(Type.Q6_K, (208,), 256, 256),
)


@dataclasses.dataclass(frozen=True)
class Kernel:
    """The kernels of a format, in one of their forms: a number of ``lb_byte_sums``."""

    format: Format
    form: int

    def __str__(self) -> str:
        return f"{self.format}-{FORMS[self.form]}" if self.form else str(self.format)


KERNELS = (
    *(Kernel(format, 0) for format in FORMATS),
    *(Kernel(format, 1) for format in FORMATS if format.type != Type.F16),
)


@dataclasses.dataclass(frozen=True)
class Result:
    """What the guest computed; ``packed``: with kernels of our own."""

    values: Array
    packed: bool


def check(
    guest: Guest,
    op: CheckOp,
    inputs: Sequence[Array],
    shape: tuple[int, ...],
    *,
    sizes: Sequence[int],
    type: int = 0,
    packed: bool = True,
    factors: tuple[float, float, float] = (0.0, 0.0, 0.0),
    threads: int = 1,
) -> Result:
    """One operation on these arrays; a result of this shape, in single precision."""
    pointers = [put(guest, np.ascontiguousarray(array).tobytes()) for array in inputs]
    pointers.append(put(guest, np.array(pointers, np.uint32).tobytes()))
    padded = [*sizes, *[0] * (6 - len(sizes))]
    pointers.append(put(guest, CHECK_PARAMS.pack(op, type, packed, 1, threads, *padded, *factors)))
    n_bytes = 4 * int(np.prod(shape))
    pointers.append(put(guest, b"\xee" * n_bytes))
    try:
        status = guest.call("lb_check", pointers[-2], pointers[-3], pointers[-1])
        assert status in (0, 1), status
        values = np.frombuffer(guest.read(pointers[-1], n_bytes), np.float32)
    finally:
        for pointer in pointers:
            guest.call("lb_free", pointer)
    return Result(values.reshape(shape), status == 1)


def random_weights(
    format: Format,
    rows: int,
    k: int,
    seed: int = 0,
) -> Array:
    """Rows of a file, uint8 [rows][bytes]: all codes at random, scales around 0.01."""
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 256, (rows, k // format.unit * format.row_size), np.uint8)
    for place in half_places(format):
        n = halves(format, raw)[..., place].shape
        set_halves(format, raw, place, (rng.standard_normal(n) * 0.01).astype(np.float16))
    return raw


def half_places(format: Format) -> range:
    """Which halves a unit has."""
    return range(format.row_size // 2 if format.type == Type.F16 else len(format.halves))


def halves(format: Format, raw: Array) -> Array:
    """The half-precision numbers in these rows: [rows][units][place]."""
    blocks = raw.reshape(len(raw), -1, format.row_size)
    return np.stack(
        [blocks[..., at : at + 2].copy().view(np.float16)[..., 0] for at in _offsets(format)], -1
    )


def set_halves(format: Format, raw: Array, place: int, values: Any) -> None:
    """Put ``values``, for [rows][units], at this place of the rows."""
    blocks = raw.reshape(len(raw), -1, format.row_size)
    at = _offsets(format)[place]
    wanted = np.broadcast_to(np.asarray(values, np.float16), blocks.shape[:2])
    blocks[..., at : at + 2] = wanted[..., None].copy().view(np.uint8)


def _offsets(format: Format) -> Sequence[int]:
    return range(0, format.row_size, 2) if format.type == Type.F16 else format.halves


def widened(numbers: Array) -> Array:
    """Half-precision numbers in single precision. Where processors tell of a signalling NaN, as on ARM, numpy warns."""
    with np.errstate(invalid="ignore"):
        return numbers.astype(np.float32)


def dequantized(format: Format, raw: Array) -> Array:
    """Weights in single precision, as gguf-py has them."""
    with np.errstate(all="ignore"):
        return np.asarray(gguf.dequantize(raw, format.type), np.float32)


def coded(raw: Array) -> Array:
    """Half-precision weights as they are held, in float64: codes of 16 bits, and a power of two for each 32."""
    with np.errstate(all="ignore"):
        weights = raw.view(np.float16).astype(np.float64).reshape(len(raw), -1, 32)
        largest = np.abs(weights).max(-1, keepdims=True)
        exponent = np.frexp(np.where(largest < np.inf, largest, 1))[1]
        scale = np.where(largest < np.inf, np.ldexp(1.0, exponent - 15), np.nan)
        return np.reshape(np.rint(weights / scale) * scale, (len(raw), -1))


def parts(format: Format, raw: Array, packed: bool = True) -> list[Array]:
    """Arrays in float64 whose sum the weights are: single precision rounds a scale less a minimum, but not these."""
    if format.wide and packed:
        return [coded(raw)]
    if len(format.halves) < 2:
        return [dequantized(format, raw).astype(np.float64)]
    found = []
    for place in range(2):
        alone = raw.copy()
        set_halves(format, alone, place, 0)
        found.append(dequantized(format, alone).astype(np.float64))
    return found


def widely_rounded(x: Array) -> Array:
    """Activations at sixteen bits, in float64. The sum of magnitudes is added up in the order of the kernel."""
    blocks = np.abs(x.astype(np.float32)).reshape(len(x), -1, 8, 4)
    with np.errstate(all="ignore"):
        sums = np.zeros_like(blocks[:, :, 0])
        for i in range(8):
            sums += blocks[:, :, i] * (np.float32(1) / np.float32(65000))
        sums = sums[..., :2] + sums[..., 2:]
        largest = blocks.max((2, 3))
        scale = np.maximum(sums[..., 0] + sums[..., 1], largest / np.float32(32767))
        inverse = np.where(largest > 2.0**-112, np.float32(1) / scale, np.float32(0))
        codes = np.rint(x.astype(np.float32).reshape(*scale.shape, 32) * inverse[..., None])
        return np.reshape(codes.astype(np.float64) * scale[..., None].astype(np.float64), x.shape)


def rounded(format: Format, x: Array, packed: bool = True) -> Array:
    """Activations as the kernel rounds them for these weights, ours or, not packed, ggml's; in float64."""
    if format.wide:
        with np.errstate(all="ignore"):
            return widely_rounded(x) if packed else x.astype(np.float16).astype(np.float64)
    with np.errstate(all="ignore"):
        blocks = x.reshape(len(x), -1, format.activations)
        largest = np.abs(blocks).max(-1, keepdims=True)
        scale = largest / np.float32(127)
        if format.activations == 32:
            scale = scale.astype(np.float16)
        inverse = np.where(largest > 2.0**-121, np.float32(127) / largest, np.float32(0))
        codes = np.clip(np.nan_to_num(np.rint(blocks * inverse)), -127, 127)
        return np.reshape(codes.astype(np.float64) * scale.astype(np.float64), x.shape)


def product(format: Format, raw: Array, x: Array, packed: bool = True) -> tuple[Array, Array]:
    """Activations [n][k] times weights [rows][k], and the sum of the magnitudes of what is added up."""
    y = rounded(format, x, packed)
    each = parts(format, raw, packed)
    with np.errstate(all="ignore"):
        exact = sum(y @ part.T for part in each)
        size = sum(np.abs(y) @ np.abs(part).T for part in each)
    return np.asarray(exact), np.asarray(size)


def multiply(
    guest: Guest,
    format: Format,
    raw: Array,
    x: Array,
    packed: bool = True,
    threads: int = 1,
) -> Result:
    """Activations [n][k] times weights [rows][k] in the guest: [n][rows]."""
    n, k = x.shape
    return check(
        guest,
        CheckOp.PRODUCT,
        [raw, x.astype(np.float32)],
        (n, len(raw)),
        sizes=(k, len(raw), n),
        type=int(format.type),
        packed=packed,
        threads=threads,
    )
