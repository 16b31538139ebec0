"""Every field of the manifest is compared, told by name, and shown by verification."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import LlamaBridge, ModelParams, SamplingParams, SessionMismatch
from tests.forging import forge, read_manifest
from tests.ledger import assert_ledger_rule, engine_of
from tests.making import MakeModel
from tools.random_model import CHATML

PARAMS = ModelParams(n_ctx=256)
SHORT = SamplingParams(temperature=0, max_tokens=6)
OTHER_ORDER = "big" if sys.byteorder == "little" else "little"


@pytest.fixture(scope="module")
def saved(make_model: MakeModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "s"
    with LlamaBridge(make_model(), backend="native", params=PARAMS) as llama:
        llama.generate("Once upon a time", sampling=SHORT)
        llama.generate_continue(" there was", sampling=SHORT)
        llama.session_save(path)
    return path


def refused(llama: LlamaBridge, path: Path, field: str) -> None:
    llama.generate("Something else", sampling=SHORT)
    before = llama.session().tokens
    with pytest.raises(SessionMismatch, match=f"{field} differs") as caught:
        llama.session_load(path)
    error = caught.value
    assert error.field == field
    assert error.saved != error.current
    found = llama.session_verify(path)
    assert not found.ok
    first = next(check for check in found.fields if not check.same)
    assert (first.field, first.saved, first.current) == (field, error.saved, error.current)
    assert llama.session().tokens == before
    assert llama.generate_continue(" more", sampling=SHORT).usage.cached_tokens == len(before)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"architecture": "qwen2"}, "model.architecture"),
        ({"vocab": "phi-3"}, "model.vocabulary"),
        ({"chat_template": CHATML}, "model.chat_template"),
        ({"quantization": "q8_0"}, "model.tensors"),
        ({"seed": 4}, "model.weights"),
        ({"n_ctx_train": 2048}, "model.metadata"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_model_of_the_same_shape(
    make_model: MakeModel, saved: Path, change: dict[str, Any], field: str
) -> None:
    with LlamaBridge(make_model(**change), backend="native", params=PARAMS) as llama:
        refused(llama, saved, field)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("context.state_format", "ggsq-2"),
        ("context.kv_type_k", "q8_0"),
        ("context.kv_type_v", None),
        ("context.flash_attention", 1),
        ("context.rope", "scaled"),
        ("context.lora", ["adapter"]),
        ("context.byte_order", OTHER_ORDER),
    ],
)
def test_another_context(
    make_model: MakeModel, saved: Path, tmp_path: Path, field: str, value: object
) -> None:
    path = tmp_path / "s"
    path.write_bytes(saved.read_bytes())
    forge(path, manifest={field: value})
    with LlamaBridge(make_model(), backend="native", params=PARAMS) as llama:
        if value == 1:  # equal to True, and not what was written
            assert not llama.session_verify(path).ok
        else:
            refused(llama, path, field)


def test_a_file_that_does_not_say_its_byte_order_is_of_the_usual_one(
    make_model: MakeModel, saved: Path, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    path.write_bytes(saved.read_bytes())
    context = read_manifest(path)["context"]
    assert context.pop("byte_order") == sys.byteorder
    forge(path, manifest={"context": context})
    with LlamaBridge(make_model(), backend="native", params=PARAMS) as llama:
        assert llama.session_load(path).n_tokens == len(llama.session().tokens)
        assert_ledger_rule(llama, n=3)


def test_a_refused_file_does_not_even_begin_the_named_session(
    make_model: MakeModel, saved: Path
) -> None:
    with LlamaBridge(make_model(seed=4), backend="native", params=PARAMS) as llama:
        llama.generate("Something else", sampling=SHORT)
        with pytest.raises(SessionMismatch):
            llama.session("other").load(saved)
        assert llama.sessions() == []
        assert engine_of(llama).length == len(llama.session().tokens)


def test_a_long_value_in_a_file_makes_no_long_message(
    make_model: MakeModel, tmp_path: Path
) -> None:
    file = tmp_path / "a.session"
    with LlamaBridge(make_model(), backend="native", params=PARAMS) as llama:
        llama.generate("Once upon a time", sampling=SHORT, chat=False)
        llama.session_save(file)
        forge(file, manifest={"model.architecture": "x" * 100_000})
        with pytest.raises(SessionMismatch, match=r"model\.architecture differs") as caught:
            llama.session_load(file)
        assert len(str(caught.value)) < 1000
        assert caught.value.saved == "x" * 100_000
