"""What is done to a model file. A seed and a number always give the same file and the same recipe."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.fuzz.models import vocabulary_mutations
from tests.fuzz.models.document import ARRAY, BOOL, FLOAT32, STRING, UINT32, Document, Pair
from tests.fuzz.models.keys import ARCHITECTURES, HYPERPARAMETERS
from tests.gguf_editing import SIZES, Array

__all__ = ["Mutant", "mutant"]

_NUMBERS = (
    0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 96, 127, 128, 255, 256, 257, 511, 512, 513, 1000, 1024, 4096,
    65_535, 65_536, 2**24, 2**30, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1,
    -1, -2, -32, -(2**31),
)  # fmt: skip
_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-30, 1e30, 3e38, math.inf, -math.inf, math.nan, 0.5, 1e4)
_KINDS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 99)
_TEXTS = (
    b"",
    b"x",
    b"\0",
    b"\xff\xfe",
    "▁".encode(),
    b"a" * 100_000,
    b"mean",
    b"linear",
    b"yarn",
    b"longrope",
)
_TYPES = (*SIZES, 4, 5, 17, 19, 21, 22, 29, 31, 36, 38, 40, 41, 42, 43, 2**31, 2**32 - 1)


@dataclass(frozen=True)
class Mutant:
    """A hostile file.

    Attributes:
        seed: name of the model that it was made of.
        recipe: what was done to it.
    """

    seed: str
    data: bytes = field(repr=False)
    recipe: str


Change = Callable[[Document, random.Random], str]
"""Changes a document and says what it did."""


def mutant(seeds: Mapping[str, Document], seed: int, number: int) -> Mutant:
    """The hostile file of this number; the same arguments give the same file."""
    draw = random.Random(f"{seed}/{number}")
    name = draw.choice(sorted(seeds))
    document = seeds[name].copy()
    steps: list[str] = []
    for _ in range(draw.choice((1, 1, 1, 1, 2, 2, 3))):
        change = draw.choices(_CHANGES, _WEIGHTS)[0]
        try:
            steps.append(change(document, draw))
        except (LookupError, ValueError, ZeroDivisionError):
            continue  # an earlier step left nothing to change there
    data = document.whole()
    if draw.random() < 0.08 or not steps:
        data, step = _damaged(data, len(data) - sum(len(row.data) for row in document.rows), draw)
        steps.append(step)
    return Mutant(name, data, "; ".join(steps))


def _damaged(data: bytes, head: int, draw: random.Random) -> tuple[bytes, str]:
    """Bytes of the header changed, or the file cut."""
    head = max(32, min(head, len(data)))
    how = draw.choice(("flip", "flip", "flips", "write", "cut header", "cut", "grow", "zero"))
    changed = bytearray(data)
    at = draw.randrange(head)
    if how == "flip":
        changed[at] ^= 1 << draw.randrange(8)
    elif how == "flips":
        for _ in range(20):
            changed[draw.randrange(head)] ^= 1 << draw.randrange(8)
    elif how == "write":
        struct.pack_into("<Q", changed, min(at, len(data) - 8), draw.choice(_NUMBERS) % 2**64)
    elif how == "cut header":
        del changed[at:]
    elif how == "cut":
        del changed[draw.randrange(len(data)) :]
    elif how == "grow":
        changed[at:at] = draw.randbytes(draw.choice((1, 8, 32)))
    else:
        changed[at : at + draw.choice((1, 8, 64))] = bytes(8)
    return bytes(changed), f"{how} at {at}"


# metadata


def _near(draw: random.Random, old: int) -> int:
    near = (old - 1, old + 1, 2 * old, old // 2, -old, old + 32, 3 * old)
    return draw.choice(near) if draw.random() < 0.4 else draw.choice(_NUMBERS)


def _value_like(draw: random.Random, kind: int, old: Any) -> Any:
    """Another value of this type."""
    if kind == STRING:
        return draw.choice(_TEXTS)
    if kind in (6, 12):
        return draw.choice(_FLOATS)
    if kind == ARRAY and isinstance(old, Array):
        items = list(old.items)
        if not items:
            return Array(old.kind, [1])
        for _ in range(draw.choice((1, 1, len(items)))):
            at = draw.randrange(len(items))
            items[at] = _value_like(draw, old.kind, items[at])
        return Array(old.kind, items)
    return _near(draw, old if isinstance(old, int) else 1)


def _hyperparameters(document: Document) -> list[Pair]:
    start = document.architecture.encode() + b"."
    return [pair for pair in document.pairs if pair.key.startswith(start)]


def _other_value(document: Document, draw: random.Random) -> str:
    pair = draw.choice(_hyperparameters(document))
    pair.value = _value_like(draw, pair.kind, pair.value)
    return f"{_shown(pair.key)} = {_shown(pair.value)}"


def _any_value(document: Document, draw: random.Random) -> str:
    pair = draw.choice([p for p in document.pairs if p.kind != ARRAY])
    pair.value = _value_like(draw, pair.kind, pair.value)
    return f"{_shown(pair.key)} = {_shown(pair.value)}"


def _new_value(document: Document, draw: random.Random) -> str:
    """A hyperparameter that the model has no need of."""
    key = f"{document.architecture}.{draw.choice(HYPERPARAMETERS)}"
    kind = draw.choice((UINT32, UINT32, UINT32, UINT32, FLOAT32, BOOL, STRING, 5, 10))
    value = _value_like(draw, kind, 64)
    if draw.random() < 0.2:
        count = draw.choice((0, 1, 2, 3, 4, 8, 64, 65, 512, 513))
        value = Array(kind, [_value_like(draw, kind, 2) for _ in range(count)])
        kind = ARRAY
    document.set(key, kind, value)
    return f"{key} as {kind} = {_shown(value)}"


def _per_layer(document: Document, draw: random.Random) -> str:
    """A number becomes a list of numbers."""
    pair = draw.choice([p for p in _hyperparameters(document) if p.kind in (4, 5)])
    layers = document.find(f"{document.architecture}.block_count")
    n = layers.value if layers is not None and isinstance(layers.value, int) else 2
    count = draw.choice((n, n, n, n - 1, n + 1, 0, 1, 512, 513)) % 1000
    items = [draw.choice((pair.value, pair.value, _near(draw, pair.value))) for _ in range(count)]
    pair.kind, pair.value = ARRAY, Array(pair.kind, items)
    return f"{_shown(pair.key)} = {_shown(pair.value)}"


def _other_kind(document: Document, draw: random.Random) -> str:
    pair = draw.choice(document.pairs)
    pair.kind = draw.choice(_KINDS)
    if pair.kind == ARRAY and isinstance(pair.value, Array):
        pair.value.kind = draw.choice(_KINDS)
    return f"{_shown(pair.key)} as {pair.kind}"


def _element_kind(document: Document, draw: random.Random) -> str:
    pair = draw.choice([p for p in document.pairs if isinstance(p.value, Array)])
    pair.value.kind = draw.choice(_KINDS)
    return f"elements of {_shown(pair.key)} as {pair.value.kind}"


def _no_key(document: Document, draw: random.Random) -> str:
    at = draw.randrange(len(document.pairs))
    return f"without {_shown(document.pairs.pop(at).key)}"


def _key_twice(document: Document, draw: random.Random) -> str:
    pair = replace(draw.choice(document.pairs))
    if draw.random() < 0.5:
        pair.value = _value_like(draw, pair.kind, pair.value)
    document.pairs.insert(draw.randrange(len(document.pairs) + 1), pair)
    return f"{_shown(pair.key)} twice"


def _key_name(document: Document, draw: random.Random) -> str:
    pair = draw.choice(document.pairs)
    old, pair.key = (
        pair.key,
        draw.choice((b"", b"\xff", pair.key + b"\0", pair.key * 3000, b"general.x")),
    )
    return f"{_shown(old)} is named {_shown(pair.key)}"


def _counts(document: Document, draw: random.Random) -> str:
    more = draw.choice((-1, 1, 2, 2**31, 2**62, -1000))
    if draw.random() < 0.5:
        document.more_pairs = more
        return f"{more} more pairs"
    document.more_rows = more
    return f"{more} more rows"


def _version(document: Document, draw: random.Random) -> str:
    document.version = draw.choice((0, 1, 2, 4, 0x03000000, 2**32 - 1))
    return f"version {document.version}"


def _alignment(document: Document, draw: random.Random) -> str:
    value = draw.choice((0, 1, 2, 4, 8, 16, 24, 33, 64, 96, 128, 4096, 2**31, 2**32 - 1))
    document.set("general.alignment", draw.choice((UINT32, UINT32, 10, 5)), value)
    return f"alignment {value}"


def _architecture(document: Document, draw: random.Random) -> str:
    """It says that it is of another one."""
    before, after = document.architecture, draw.choice(ARCHITECTURES)
    for pair in document.pairs:
        if pair.key.startswith(before.encode() + b"."):
            pair.key = after.encode() + pair.key[len(before) :]
    document.set("general.architecture", STRING, after.encode())
    return f"architecture {after}"


# tensors


def _row_type(document: Document, draw: random.Random) -> str:
    row = draw.choice(document.rows)
    fitting = [t for t in SIZES if row.shape and row.shape[0] % SIZES[t][0] == 0]
    row.type = draw.choice(fitting) if draw.random() < 0.85 else draw.choice(_TYPES)
    row.refill()
    return f"{_shown(row.name)} of type {row.type}"


def _row_shape(document: Document, draw: random.Random) -> str:
    row = draw.choice(document.rows)
    how = draw.randrange(6)
    if how == 0:
        row.shape.reverse()
    elif how == 1:
        row.shape.append(draw.choice((0, 1, 2, 2**32, 2**63)))
    elif how == 2 and len(row.shape) > 1:
        row.shape.pop()
    elif how == 3:
        row.shape[:] = [draw.choice((0, 1, 64, 2**31, 2**63))] * draw.choice((0, 1, 2, 4, 5, 9))
    else:
        at = draw.randrange(len(row.shape))
        row.shape[at] = _near(draw, row.shape[at]) % 2**64
    row.refill()
    return f"{_shown(row.name)} of shape {row.shape}"


def _row_offset(document: Document, draw: random.Random) -> str:
    row = draw.choice(document.rows)
    size = sum(len(r.data) for r in document.rows)
    row.offset = draw.choice((0, 1, 32, 33, size, size - 32, -32, 2**63, 2**64 - 32, 2**40, 64))
    return f"{_shown(row.name)} at {row.offset}"


def _row_name(document: Document, draw: random.Random) -> str:
    row = draw.choice(document.rows)
    names = (
        b"",
        b"\xff",
        b"x" * 63,
        b"x" * 64,
        b"blk.99.attn_q.weight",
        row.name + b"\0",
        b"output.weight",
    )
    other = draw.choice(document.rows).name
    old, row.name = row.name, draw.choice((*names, other, row.name.replace(b".weight", b".bias")))
    return f"{_shown(old)} is named {_shown(row.name)}"


def _no_row(document: Document, draw: random.Random) -> str:
    at = draw.randrange(len(document.rows))
    return f"without {_shown(document.rows.pop(at).name)}"


def _row_twice(document: Document, draw: random.Random) -> str:
    row = draw.choice(document.rows)
    name = row.name if draw.random() < 0.5 else draw.choice(_MORE_ROWS)
    document.rows.append(replace(row, name=name, shape=list(row.shape)))
    return f"{_shown(row.name)} again as {_shown(name)}"


_MORE_ROWS = (
    b"output.weight", b"output.bias", b"rope_freqs.weight", b"blk.0.attn_q.bias", b"blk.0.attn_k.bias",
    b"blk.0.attn_output.bias", b"blk.0.ffn_up.bias", b"blk.0.ffn_gate.bias", b"blk.0.ffn_down.bias",
    b"blk.0.attn_q_norm.weight", b"blk.0.ffn_gate_inp.weight", b"blk.0.attn_qkv.weight", b"blk.0.attn_qkv.bias",
    b"position_embd.weight", b"token_types.weight", b"cls.weight", b"cls.bias", b"cls.output.weight",
    b"cls.norm.weight", b"blk.1.attn_rot_embd", b"blk.0.rope_factors_long.weight", b"blk.0.attn_q.scale",
    b"rope_factors_long.weight", b"rope_factors_short.weight", b"dense_2.weight", b"dense_3.weight", b"blk.0.attn_q.input_scale",
)  # fmt: skip


def _no_data(document: Document, draw: random.Random) -> str:
    row = draw.choice(document.rows)
    row.data = row.data[: draw.randrange(len(row.data) + 1)]
    return f"{_shown(row.name)} with less data"


def _weights(document: Document, draw: random.Random) -> str:
    """NaN, infinity, zeros, noise, or what no quantiser makes."""
    row = draw.choice(document.rows)
    how = draw.choice(
        (
            b"\xff",
            b"\0",
            b"\0\0\x80\x7f",
            b"\0\0\x80\xff",
            b"\0\0\xc0\x7f",
            b"\0\x7c",
            b"\xff\x7f\x7f\x7f",
            b"",
        )
    )
    row.data = (how * len(row.data))[: len(row.data)] if how else draw.randbytes(len(row.data))
    return f"{_shown(row.name)} full of {how.hex() or 'noise'}"


def _some_weights(document: Document, draw: random.Random) -> str:
    row = draw.choice(document.rows)
    data = bytearray(row.data)
    for _ in range(8):
        at = draw.randrange(len(data) // 4) * 4
        struct.pack_into("<f", data, at, draw.choice(_FLOATS))
    row.data = bytes(data)
    return f"{_shown(row.name)} with some odd weights"


def _shown(value: object) -> str:
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else repr(value)
    return text if len(text) < 80 else f"{text[:70]}... ({len(text)})"


_ROWS: list[tuple[Change, int]] = [
    (_row_type, 6), (_row_shape, 6), (_row_offset, 2), (_row_name, 2), (_no_row, 3), (_row_twice, 4), (_no_data, 1),
    (_weights, 4), (_some_weights, 2),
]  # fmt: skip
_METADATA: list[tuple[Change, int]] = [
    (_other_value, 12), (_any_value, 3), (_new_value, 14), (_per_layer, 5), (_other_kind, 2), (_element_kind, 1),
    (_no_key, 3), (_key_twice, 1), (_key_name, 1), (_counts, 1), (_version, 1), (_alignment, 2), (_architecture, 4),
]  # fmt: skip
_ALL = [*_METADATA, *_ROWS, *vocabulary_mutations.CHANGES]
_CHANGES = [change for change, _ in _ALL]
_WEIGHTS = [weight for _, weight in _ALL]
