"""NaN in a model's weights is an error on every backend, never an answer."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from llama_bridge import Capability, EngineError, LlamaBridge
from tests.fuzz.models.document import Document, Row
from tests.fuzz.models.seeds import prepare, read_seeds

pytestmark = pytest.mark.skipif(sys.platform == "emscripten", reason="writes models with numpy")

F32, Q8_0 = 0, 8
_NAN = struct.pack("<f", float("nan"))
_HALF_NAN = b"\x00\x7e"


_SEEDS = ("qwen2", "gemma3", "mamba", "qwen3moe", "nomic-bert")


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Document]:
    folder = tmp_path_factory.mktemp("seeds")
    prepare(folder, _SEEDS)
    return read_seeds(folder)


def _damaged(row: Row) -> bytes:
    """All of a vector, or the scales of a matrix's blocks."""
    if row.type == F32:
        return _NAN * (len(row.data) // 4)
    assert row.type == Q8_0
    data = bytearray(row.data)
    data[0::34], data[1::34] = (bytes([byte]) * (len(data) // 34) for byte in _HALF_NAN)
    return bytes(data)


@pytest.mark.parametrize("name", _SEEDS)
@pytest.mark.parametrize("backend", ["native", "wasm"])
def test_nan_in_any_tensor_is_no_answer(
    backend: str, name: str, seeds: dict[str, Document], tmp_path: Path
) -> None:
    seed = seeds[name]
    pytest.importorskip(f"llama_bridge_{backend}.backend")
    kinds = {row.name.rpartition(b"blk.1.")[2] or row.name: i for i, row in enumerate(seed.rows)}
    for i in kinds.values():
        document = seed.copy()
        row = document.rows[i]
        row.data = _damaged(row)
        path = tmp_path / "m.gguf"
        path.write_bytes(document.whole())
        with (
            LlamaBridge(path, backend=backend, n_ctx=64, n_threads=1) as llama,
            pytest.raises(EngineError, match="NaN"),
        ):
            _answer(llama)


def _answer(llama: LlamaBridge) -> None:
    if Capability.GENERATE in llama.capabilities:
        llama.generate("Hello there", chat=False, temperature=0, max_tokens=2)
    else:
        llama.embed("Hello there")
