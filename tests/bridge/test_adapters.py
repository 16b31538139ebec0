"""LoRA adapters on every backend: what is accepted, what is refused, and that nothing changes then."""

from __future__ import annotations

import itertools
import re
import struct
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import (
    BridgeError,
    Capability,
    GivenAdapter,
    InvalidInput,
    InvalidModel,
    LlamaBridge,
    ModelNotFound,
    ModelSource,
    UnsupportedCapability,
)
from llama_bridge.models.adapter import read_adapters
from llama_bridge.models.source import open_model
from llama_bridge.testing import FakeBackend, FakeLlama
from llama_bridge.testing.adapters import write_adapter
from tests.attack import interrupts as attack
from tests.gguf_editing import Gguf
from tests.ledger import engine_of
from tests.making import embedding_model

pytestmark = pytest.mark.requires_capability("adapters")

HELLO = "Hello! My name is Zorvane."


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "adapter.gguf", open_model("demo"), strength=1.0)


def test_it_is_told_which_adapters_are_in_force(llama: LlamaBridge, adapter: Path) -> None:
    assert not llama.adapters
    llama.set_adapters([(adapter, 0.5)])
    (one,) = llama.adapters
    assert (one.name, one.scale, one.rank, one.alpha) == ("adapter", 0.5, 4, 8.0)
    assert one.architecture == llama.model.architecture
    assert one.file.path == adapter
    assert one.sha256[:12] in repr(one)
    assert llama.info.adapters == (one,)


def test_an_adapter_at_load_is_the_same_as_one_set_later(
    llama: LlamaBridge, adapter: Path, caplog: pytest.LogCaptureFixture
) -> None:
    llama.set_adapters([[str(adapter), 1]])  # type: ignore[list-item]  # as JSON has it
    later = llama.generate(HELLO)
    assert not caplog.records, "nothing to tell people"
    with LlamaBridge("demo", backend=llama.backend, adapters=[adapter]) as other:
        assert other.adapters == llama.adapters
        assert other.generate(HELLO, temperature=0).text == later.text
        other.load_model("demo")
        assert not other.adapters, "they belong to the model that they came with"
        other.load_model("demo", adapters=[(adapter, 0.5)])
        assert [one.scale for one in other.adapters] == [0.5]


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_an_adapter_that_holds_no_number_is_refused_and_nothing_changes(
    llama: LlamaBridge, adapter: Path, tmp_path: Path, number: str
) -> None:
    if isinstance(llama, FakeLlama) or llama.backend == "fake":
        pytest.skip("the fake computes nothing")
    llama.set_adapters([adapter])
    before = llama.adapters
    damaged = Gguf(adapter)
    name, tensor = list(damaged.tensors.items())[-1]
    tensor.data = tensor.data[:-4] + struct.pack("<f", float(number))
    path = damaged.write(tmp_path / "damaged.gguf")
    with pytest.raises(InvalidModel, match=rf"{re.escape(name)} holds (NaN|infinity)"):
        llama.set_adapters([path])
    assert llama.adapters == before
    with pytest.raises(InvalidModel, match="holds"):
        LlamaBridge("demo", backend=llama.backend, adapters=[path])


class Source:
    """A file that is not on the disk."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.path_ = path

    def open(self) -> Any:
        return self.path_.open("rb", buffering=0)


def test_an_adapter_may_come_from_a_source_where_models_may(
    llama: LlamaBridge, adapter: Path
) -> None:
    source = Source(adapter)
    assert isinstance(source, ModelSource)
    if llama.backend == "native":
        with pytest.raises(InvalidInput, match="loads only files"):
            llama.set_adapters([source])
        assert llama.adapters == ()
        return
    llama.set_adapters([(source, 0.5)])
    from_source = llama.generate(HELLO).text
    llama.set_adapters([(adapter, 0.5)])
    assert llama.generate(HELLO).usage.cached_tokens > 0
    assert llama.generate(HELLO).text == from_source


# what is refused

FORMS: list[Any] = [
    "adapter.gguf",
    b"adapter.gguf",
    Path("adapter.gguf"),
    None,
    7,
    {"adapter.gguf": 0.5},
    {"adapter.gguf"},
    [7],
    [None],
    [("adapter.gguf",)],
    [("adapter.gguf", 0.5, 1)],
    [("adapter.gguf", "0.5")],
    [("adapter.gguf", True)],
    [("adapter.gguf", None)],
    [("adapter.gguf", float("nan"))],
    [("adapter.gguf", float("inf"))],
    [("adapter.gguf", 10**400)],
    [("adapter.gguf", -1e30)],
    [("", 1)],
    ["a\0b"],
    ("adapter.gguf", 0.5),
    ["adapter.gguf"] * 65,
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: repr(form)[:30])
def test_a_wrong_form_is_refused_with_its_name(llama: LlamaBridge, form: Any) -> None:
    with pytest.raises(InvalidInput, match=r"adapters|path|model"):
        llama.set_adapters(form)
    assert llama.adapters == ()


def no_adapter(adapter: Path) -> Path:
    return open_model("demo").path


def empty(adapter: Path) -> Path:
    adapter.write_bytes(b"")
    return adapter


def of_text(adapter: Path) -> Path:
    adapter.write_text("style: pirate\n")
    return adapter


def cut_off(adapter: Path) -> Path:
    adapter.write_bytes(adapter.read_bytes()[:-64])
    return adapter


def for_another_architecture(adapter: Path) -> Path:
    return write_adapter(adapter, open_model("demo"), architecture="qwen2")


def for_another_size(adapter: Path) -> Path:
    edited = Gguf(adapter)
    tensor = next(iter(edited.tensors.values()))
    tensor.shape[0] *= 2
    tensor.retype(0)
    return edited.write(adapter)


def for_more_layers(adapter: Path) -> Path:
    edited = Gguf(adapter)
    for name in [name for name in edited.tensors if name.startswith("blk.0.")]:
        tensor = edited.tensors.pop(name)
        tensor.name = name.replace("blk.0.", "blk.99.")
        edited.tensors[tensor.name] = tensor
    return edited.write(adapter)


def of_another_kind(adapter: Path) -> Path:
    edited = Gguf(adapter)
    edited.set("adapter.type", b"control")
    return edited.write(adapter)


WRONG: list[tuple[Callable[[Path], Path], str]] = [
    (no_adapter, "this is a model, not a LoRA adapter"),
    (empty, "empty"),
    (of_text, "a text file"),
    (cut_off, "truncated"),
    (for_another_architecture, "'qwen2', but the model's is 'llama'"),
    (for_another_size, "made for another model"),
    (for_more_layers, r"blk\.99\.\S+, which the model does not have"),
    (of_another_kind, "of the type 'control'"),
]


@pytest.mark.parametrize(("spoil", "why"), WRONG, ids=lambda value: getattr(value, "__name__", ""))
def test_a_wrong_file_is_refused_with_the_reason_and_nothing_changes(
    llama: LlamaBridge, adapter: Path, tmp_path: Path, spoil: Callable[[Path], Path], why: str
) -> None:
    kept = write_adapter(tmp_path / "kept.gguf", open_model("demo"), seed=9)
    llama.set_adapters([kept])
    before = llama.generate(HELLO)
    in_force = llama.adapters
    wrong = spoil(adapter)
    tries: list[list[GivenAdapter]] = [[wrong], [kept, (wrong, 0.5)]]
    for several in tries:
        with pytest.raises(InvalidModel, match=why) as caught:
            llama.set_adapters(several)
        assert str(wrong) in str(caught.value)
    assert llama.adapters == in_force
    again = llama.generate(HELLO)
    assert again.usage.cached_tokens == before.usage.prompt_tokens - 1
    assert again.text == before.text
    with pytest.raises(InvalidModel, match=why):
        llama.load_model("demo", adapters=[wrong], unload_first=True)
    assert llama.adapters == in_force


def test_a_missing_file_is_said_to_be_missing(llama: LlamaBridge, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"gone\.gguf"):
        llama.set_adapters([tmp_path / "gone.gguf"])
    with pytest.raises(InvalidModel, match="directory"):
        llama.set_adapters([tmp_path])
    with pytest.raises(ModelNotFound):
        LlamaBridge("demo", backend=llama.backend, adapters=[tmp_path / "gone.gguf"])


def test_an_adapter_is_no_model(llama_backend: str, adapter: Path) -> None:
    with pytest.raises(InvalidModel, match=r"a LoRA adapter, not a model.*adapters=") as caught:
        LlamaBridge(adapter, backend=llama_backend)
    assert caught.value.found == "adapter"


def test_adapters_need_a_model(llama_backend: str, adapter: Path) -> None:
    with pytest.raises(InvalidInput, match="adapters need a model"):
        LlamaBridge(adapters=[adapter], backend=llama_backend)
    with LlamaBridge(backend=llama_backend, adapters=[]) as llama, pytest.raises(BridgeError):
        llama.set_adapters([])


def test_a_backend_without_adapters_says_so_before_any_work(
    llama_backend: str, adapter: Path
) -> None:
    with FakeLlama(lacks="adapters") as llama:
        with pytest.raises(UnsupportedCapability) as caught:
            llama.set_adapters([adapter])
        assert llama_backend in caught.value.available_in
        assert llama.adapters == ()
    backend = FakeBackend(lacks="adapters", load_error=InvalidModel("x", "was loaded all the same"))
    with pytest.raises(UnsupportedCapability):
        LlamaBridge("demo", backend=backend, adapters=[adapter])


def test_a_closed_bridge_takes_none(llama_backend: str, adapter: Path) -> None:
    llama = LlamaBridge("demo", backend=llama_backend)
    llama.close()
    with pytest.raises(BridgeError, match="closed"):
        llama.set_adapters([adapter])


# more than text


@pytest.mark.requires_capability("tokens")
def test_embeddings_are_computed_with_adapters_too(llama_backend: str, tmp_path: Path) -> None:
    model = embedding_model(tmp_path / "bert.gguf")
    adapter = write_adapter(tmp_path / "a.gguf", open_model(model), strength=2.0)
    with LlamaBridge(model, backend=llama_backend) as llama:
        if Capability.ADAPTERS not in llama.capabilities:
            pytest.skip("this backend embeds without adapters")
        plain = llama.embed("Hello there").tolist()
        llama.set_adapters([adapter])
        changed = llama.embed("Hello there").tolist()
        assert max(abs(a - b) for a, b in zip(plain, changed, strict=True)) > 1e-3
        llama.set_adapters([])
        assert llama.embed("Hello there").tolist() == plain


@pytest.mark.skipif(sys.platform == "emscripten", reason="a page has no Ctrl-C")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in a log callback
def test_an_interrupt_at_any_line_leaves_the_adapters_that_are_told(
    llama_backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine computes with what ``adapters`` says, whichever that is."""
    demo = open_model("demo")
    paths = [write_adapter(tmp_path / f"{i}.gguf", demo, seed=i) for i in range(2)]
    with LlamaBridge("demo", backend=llama_backend, n_ctx=256) as llama:
        engine, tokens = engine_of(llama), llama.tokenize(HELLO)
        sets = [(), *(read_adapters([(path, 1.0)]) for path in paths)]

        def logits() -> list[float]:
            engine.clear_cancel()
            engine.clear()
            engine.decode(tokens)
            return [*engine.logits()]

        expected = {}
        for adapters in sets:
            engine.set_adapters(adapters)
            expected[adapters] = logits()
        ours = str(Path(sys.modules[type(engine).__module__].__file__ or "").parent)
        monkeypatch.setattr(attack, "_OURS", ours)
        for at, wanted in zip(itertools.count(1), itertools.cycle(sets)):
            goes_on = attack.interrupted(partial(engine.set_adapters, wanted), at, "line")
            held = engine.length
            assert logits() == expected[engine.info.adapters], f"at line {at}"
            assert held in (0, len(tokens))
            if not goes_on and at % len(sets):  # it ran through, and not to take adapters away
                break
        assert at > 10, "hardly a line was tried"
