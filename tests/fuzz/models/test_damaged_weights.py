"""A model whose weights hold NaN or infinity is refused when it is loaded, on every backend: it never answers."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from llama_bridge import EngineError, InvalidModel, LlamaBridge
from tests.fuzz.models.document import Document, Row
from tests.fuzz.models.seeds import prepare, read_seeds
from tests.gguf_editing import SIZES, Gguf

pytestmark = pytest.mark.skipif(sys.platform == "emscripten", reason="writes models with numpy")

F32, F16, Q4_0, Q5_0, Q8_0, Q4_K, Q6_K = 0, 1, 2, 6, 8, 12, 14
_HALVES = {F16: (0,), Q4_0: (0,), Q5_0: (0,), Q8_0: (0,), Q4_K: (0, 2), Q6_K: (208,)}
"""Where a block has numbers at half precision."""
_SEEDS = (
    "llama-spm", "llama-bpe", "qwen2", "qwen2vl", "k-quants", "gemma3", "mamba", "lfm2", "rwkv7", "qwen3moe",
    "bert",
)  # fmt: skip


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Document]:
    folder = tmp_path_factory.mktemp("seeds")
    prepare(folder, _SEEDS)
    with LlamaBridge("demo", backend="wasm", n_ctx=64) as llama:
        demo = Document.of(Gguf(llama.model.path))
    return {**read_seeds(folder), "demo": demo}


def _kinds(document: Document) -> dict[tuple[bytes, int], Row]:
    """A tensor of each name and type; of layers the last."""
    return {(row.name.rpartition(b".1.")[2] or row.name, row.type): row for row in document.rows}


def _spoil(row: Row, what: str) -> None:
    """The last number of a tensor, or the last scale of its last block."""
    size = SIZES[row.type][1]
    data = bytearray(row.data)
    last = len(data) - size
    if row.type == F32:
        data[last:] = struct.pack("<f", float(what))
    else:
        place = last + _HALVES[row.type][-1]
        data[place : place + 2] = struct.pack("<e", float(what))
    row.data = bytes(data)


@pytest.mark.parametrize("name", ["demo", *_SEEDS])
@pytest.mark.parametrize("backend", ["native", "wasm"])
def test_one_weight_of_any_tensor_that_is_no_number_is_refused(
    backend: str, name: str, seeds: dict[str, Document], tmp_path: Path
) -> None:
    pytest.importorskip(f"llama_bridge_{backend}.backend")
    path = tmp_path / "m.gguf"
    names = ["demo", *_SEEDS]
    before = {kind for other in names[: names.index(name)] for kind in _kinds(seeds[other])}
    new = [row.name for kind, row in _kinds(seeds[name]).items() if kind not in before]
    assert len(new) > 2, "a seed that shows nothing that the ones before it do not"
    for number, tensor in enumerate(new):
        document = seeds[name].copy()
        what, said = (("nan", "NaN"), ("inf", "infinity"), ("-inf", "infinity"))[number % 3]
        _spoil(next(row for row in document.rows if row.name == tensor), what)
        path.write_bytes(document.whole())
        with pytest.raises(InvalidModel, match=f"{tensor.decode()} holds {said} "):
            LlamaBridge(path, backend=backend, n_ctx=64, n_threads=1)


@pytest.mark.parametrize("backend", ["native", "wasm"])
def test_finite_weights_that_compute_nan_give_no_answer(
    backend: str, seeds: dict[str, Document], tmp_path: Path
) -> None:
    pytest.importorskip(f"llama_bridge_{backend}.backend")
    document = seeds["qwen2"].copy()
    for row in document.rows:
        if row.name.endswith(b"norm.weight"):
            row.data = struct.pack("<f", 3e38) * (len(row.data) // 4)
    path = tmp_path / "m.gguf"
    path.write_bytes(document.whole())
    with (
        LlamaBridge(path, backend=backend, n_ctx=64, n_threads=1) as llama,
        pytest.raises(EngineError, match="NaN"),
    ):
        llama.generate("Hello there", chat=False, temperature=0, max_tokens=2)
