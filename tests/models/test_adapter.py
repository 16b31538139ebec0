"""Adapter files: what they say, and what is refused before llama.cpp sees it, because it would end the process."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import InvalidModel, ModelFile
from llama_bridge.models.adapter import as_float32, open_adapter, read_adapters
from llama_bridge.models.adapter_preflight import check_adapter
from llama_bridge.models.source import open_model
from llama_bridge.testing.adapters import write_adapter
from tests.gguf_editing import Array, EditedTensor, Gguf

ROOT = Path(__file__).parents[2]
Edit = Callable[[Gguf], None]


@pytest.fixture
def demo() -> ModelFile:
    return open_model("demo")


def edited(path: Path, demo: ModelFile, edit: Edit) -> ModelFile:
    adapter = Gguf(write_adapter(path, demo))
    edit(adapter)
    return open_model(adapter.write(path))


def rename(adapter: Gguf, name: str) -> None:
    """Let the first pair change another tensor."""
    stem = next(iter(adapter.tensors))[:-7]
    for side in "ab":
        tensor = adapter.tensors.pop(f"{stem}.lora_{side}")
        tensor.name = f"{name}.lora_{side}"
        adapter.tensors[tensor.name] = tensor


def deepen(adapter: Gguf) -> None:
    for tensor in list(adapter.tensors.values())[:2]:
        tensor.shape.append(2)
        tensor.retype(0)


def lose_one(adapter: Gguf) -> None:
    del adapter.tensors[next(iter(adapter.tensors))]


def retype(adapter: Gguf, kind: int) -> None:
    next(iter(adapter.tensors.values())).retype(kind)


def no_rank(adapter: Gguf) -> None:
    a, b = list(adapter.tensors.values())[:2]
    a.shape[1] = b.shape[0] = 0
    a.data = b.data = b""


def other_rank(adapter: Gguf) -> None:
    tensor = next(iter(adapter.tensors.values()))
    tensor.shape[1] += 1
    tensor.retype(0)


def duplicate(adapter: Gguf) -> None:
    first, second, *_ = adapter.tensors.values()
    second.name = first.name


WRONG: list[tuple[str, Edit, str]] = [
    ("alpha as a double", lambda a: a.set("adapter.lora.alpha", 8.0, 12), "not a float32"),
    ("alpha as a text", lambda a: a.set("adapter.lora.alpha", b"8", 8), "not a float32"),
    ("alpha as an integer", lambda a: a.set("adapter.lora.alpha", 8, 4), "not a float32"),
    ("alpha is no number", lambda a: a.set("adapter.lora.alpha", float("nan")), "alpha is nan"),
    ("alignment as 64 bits", lambda a: a.set("general.alignment", 32, 10), "not a uint32"),
    ("type as a number", lambda a: a.set("adapter.type", 1, 4), "adapter.type is not a text"),
    ("another architecture", lambda a: a.set("general.architecture", b"qwen2"), "'qwen2'"),
    ("one that waits for tokens",
     lambda a: a.set("adapter.alora.invocation_tokens", Array(4, [1, 2]), 9), "activated LoRA"),
    ("more dimensions", deepen, "made for another model"),
    ("another rank", other_rank, "made for another model"),
    ("no rank", no_rank, "no elements"),
    ("one of a pair", lose_one, "lora_a is missing"),
    ("integers", lambda a: retype(a, 26), "cannot compute with"),
    ("an unknown type", lambda a: setattr(next(iter(a.tensors.values())), "type", 77), "type 77"),
    ("a norm", lambda a: rename(a, "blk.0.attn_norm.weight"), "no matrix"),
    ("no such tensor", lambda a: rename(a, "blk.0.ssm_in.weight"), "does not have"),
    ("the embedding, tied", lambda a: rename(a, "token_embd.weight"), "made for another model"),
    ("a name that is no adapter's", lambda a: rename(a, "x.lora_b"), "impossible name"),
    ("twice the same", duplicate, "twice"),
    ("nothing at all", lambda a: a.tensors.clear(), "changes nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "why"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_what_llama_cpp_takes_for_granted_is_checked(
    tmp_path: Path, demo: ModelFile, edit: Edit, why: str
) -> None:
    adapter = edited(tmp_path / "a.gguf", demo, edit)
    with pytest.raises(InvalidModel, match=why):
        check_adapter(adapter, demo)


def test_an_adapter_that_is_well_passes(tmp_path: Path, demo: ModelFile) -> None:
    check_adapter(open_adapter(write_adapter(tmp_path / "a.gguf", demo)), demo)
    norm = edited(
        tmp_path / "norm.gguf", demo, lambda a: a.tensors.update({"output_norm.weight": vector(a)})
    )
    check_adapter(norm, demo)  # llama.cpp leaves those out


def vector(adapter: Gguf) -> EditedTensor:
    return EditedTensor("output_norm.weight", [4], 0, bytes(16))


def test_an_embedding_that_is_the_output_too_cannot_be_changed(tmp_path: Path) -> None:
    """llama.cpp would end the process: it multiplies with A, which is meant to be looked up."""
    from tools.random_model import TINY, write_model  # numpy: not in a page

    for tied in (True, False):
        arguments: dict[str, Any] = {**TINY, "tied": tied}
        write_model(tmp_path / "model.gguf", **arguments)
        model = open_model(tmp_path / "model.gguf")
        path = write_adapter(
            tmp_path / "a.gguf", model, changes=lambda t: t.name == "token_embd.weight"
        )
        if tied:
            with pytest.raises(InvalidModel, match="output, too"):
                check_adapter(open_adapter(path), model)
        else:
            check_adapter(open_adapter(path), model)


@pytest.mark.parametrize(
    ("given", "found"),
    [(0.1, 0.1), (0.1 + 0.2, 0.3), (1 / 3, 0.33333334), (1e-60, 0.0), (-2, -2.0), (1e6, 1e6)],
)
def test_a_scale_is_the_one_that_llama_cpp_uses(given: float, found: float) -> None:
    assert as_float32(given) == found


def test_a_file_is_named_by_its_content(tmp_path: Path, demo: ModelFile) -> None:
    one = write_adapter(tmp_path / "one.gguf", demo)
    two = write_adapter(tmp_path / "two.gguf", demo, seed=2)
    (tmp_path / "copy.gguf").write_bytes(one.read_bytes())
    adapters = read_adapters([(two, 1), (one, 0.25), (tmp_path / "copy.gguf", 0.5), (two, 1)])
    assert sorted(adapter.scale for adapter in adapters) == [0.75, 2.0]
    assert [a.sha256 for a in adapters] == sorted(a.sha256 for a in adapters)
    assert adapters == read_adapters([(one, 0.75), (two, 2)])
    assert len({*adapters, *read_adapters([(one, 0.75)])}) == 2


@pytest.mark.skipif(sys.platform == "emscripten", reason="starts a process")
@pytest.mark.parametrize("backend", ["native", "wasm"])
def test_random_mutants_end_no_process(backend: str) -> None:
    pytest.importorskip(f"llama_bridge_{backend}.engine", reason=f"{backend} is not installed")
    n = 400 if backend == "native" else 150
    command = [sys.executable, "-m", "tests.models.adapter_mutants", backend, "0", str(n)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{done.stdout[-500:]}\n{done.stderr[-500:]}"
    outcomes = Counter(line.split()[1] for line in done.stdout.splitlines())
    assert outcomes["ran"] > n // 20, "hardly any reached llama.cpp"
    assert outcomes["InvalidModel"] > n // 2
    assert set(outcomes) <= {"ran", "InvalidModel", "EngineError", "ModelLoadError"}
