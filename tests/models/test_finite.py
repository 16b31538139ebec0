"""NaN and infinity are found among weights of every type, wherever they are, and nothing else is taken for them."""

from __future__ import annotations

import ctypes
import random
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llama_bridge.errors import InvalidModel
from llama_bridge.models.finite import about_tensor, not_finite, refuse_not_finite
from llama_bridge.models.ggml_types import GGML_TYPES, NO_WEIGHTS, GgmlType
from llama_bridge.models.source import open_model
from tests.gguf_editing import Gguf
from tools.random_model import write_model

KINDS = [kind for kind in GGML_TYPES.values() if kind.name not in NO_WEIGHTS]
_WITH_NUMBERS = [kind for kind in KINDS if kind.name != "NVFP4"]  # any byte is a number there
_NUMBERS = {kind.name: number for number, kind in GGML_TYPES.items()}


@pytest.fixture(scope="module")
def ggml_says() -> Callable[[GgmlType, bytes], bool]:
    """ggml's own answer: whether all are finite."""
    pytest.importorskip("llama_cpp")
    if sys.platform == "win32":
        pytest.skip("it is in another library there")
    library = sys.modules["llama_cpp.llama_cpp"]._lib
    validate = library.ggml_validate_row_data
    validate.argtypes, validate.restype = (
        [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t],
        ctypes.c_bool,
    )

    def says(kind: GgmlType, data: bytes) -> bool:
        return bool(validate(_NUMBERS[kind.name], data, len(data)))

    return says


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_it_says_what_ggml_says(
    kind: GgmlType,
    ggml_says: Callable[[GgmlType, bytes], bool],
    capfd: pytest.CaptureFixture[str],
) -> None:
    rng = random.Random(kind.name)
    bad = 0
    for round_ in range(200):
        data = bytearray(kind.n_bytes * 3)
        if round_ % 2:  # exponents in several bytes are rarely hit otherwise
            data = bytearray(rng.choice((0, 0xFF, 0x7C, 0x80)) for _ in data)
        for _ in range(
            round_ % 2 or kind.n_bytes // 8 + 1
        ):  # in any place, one of the bytes that matter
            at = rng.randrange(len(data) - 1)
            data[at : at + 2] = rng.choice((b"\xff\xff", b"\x00\x7c", b"\x80\x7f", b"\x01\xfc"))
        found = not_finite(kind.name, bytes(data))
        assert (found is None) == ggml_says(kind, bytes(data)), data.hex()
        bad += found is not None
    capfd.readouterr()  # ggml prints what it finds
    assert bad > 0 or kind.name == "NVFP4"


@pytest.mark.parametrize("kind", _WITH_NUMBERS, ids=lambda kind: kind.name)
def test_the_first_block_is_named(kind: GgmlType) -> None:
    data = bytearray(kind.n_bytes * 9)
    data[5 * kind.n_bytes : 6 * kind.n_bytes] = b"\xff" * kind.n_bytes
    data[8 * kind.n_bytes :] = b"\xff" * kind.n_bytes
    assert not_finite(kind.name, bytes(data)) == (5, "NaN")
    assert not_finite(kind.name, bytes(len(data))) is None


@pytest.mark.parametrize(
    ("kind", "number", "what"),
    [
        ("F32", struct.pack("<f", float("inf")), "infinity"),
        ("F32", struct.pack("<f", float("-inf")), "infinity"),
        ("F32", struct.pack("<I", 0x7F800001), "NaN"),
        ("F16", struct.pack("<H", 0xFC00), "infinity"),
        ("F16", struct.pack("<H", 0x7C01), "NaN"),
        ("BF16", struct.pack("<H", 0xFF80), "infinity"),
        ("BF16", struct.pack("<H", 0x7F81), "NaN"),
    ],
)
def test_nan_and_infinity_are_told_apart(kind: str, number: bytes, what: str) -> None:
    assert not_finite(kind, bytes(3 * len(number)) + number) == (3, what)


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("F32", struct.pack("<f", 3.4e38)),
        ("F32", struct.pack("<f", -1.8e38)),
        ("F16", struct.pack("<e", 65504.0)),
        ("BF16", struct.pack("<H", 0x7F7F)),
        ("BF16", struct.pack("<H", 0xFF7F)),
    ],
)
def test_the_largest_numbers_are_numbers(kind: str, number: bytes) -> None:
    assert not_finite(kind, number * 5000) is None


def test_the_tensor_is_named_and_where_in_it(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_model(path, vocab="gpt-2", n_layer=1, n_embd=64, n_head=2, n_ff=64, quantization="q8_0")
    refuse_not_finite(open_model(path))
    model = Gguf(path)
    embedding = model.tensors["token_embd.weight"]
    data = bytearray(embedding.data)
    assert len(data) > 3 << 20  # more than is read at once
    data[-34:-32] = struct.pack("<H", 0x7C00)
    embedding.data = bytes(data)
    model.write(path)
    weight = len(data) // 34 * 32 - 32
    with pytest.raises(
        InvalidModel, match=rf"token_embd\.weight holds infinity \(weight {weight:,}"
    ):
        refuse_not_finite(open_model(path))
    assert "holds infinity" in about_tensor(open_model(path), "token_embd.weight")
    assert "holds NaN or infinity" in about_tensor(open_model(path), "output_norm.weight")
