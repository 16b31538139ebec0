"""Tests of the application's own logic: no model, no backend, milliseconds."""

from __future__ import annotations

from notebook import Notebook

from llama_bridge.testing import FakeAnswer, FakeLlama


def test_it_passes_on_what_the_model_says(fake_llama: type[FakeLlama]) -> None:
    notebook = Notebook(fake_llama(["Noted.", "Noted too."]))
    assert [notebook.tell("Milk"), notebook.tell("Bread")] == ["Noted.", "Noted too."]


def test_where_the_model_forgets_the_notebook_repeats(fake_llama: type[FakeLlama]) -> None:
    llama = fake_llama("Noted.", lacks=["kv_continuation", "session_persistence"])
    notebook = Notebook(llama)
    notebook.tell("Milk")
    notebook.tell("Bread")
    assert [asked.prompt for asked in llama.asked] == ["Milk", "Milk\nBread"]


def test_a_save_button_needs_the_capability(fake_llama: type[FakeLlama]) -> None:
    assert Notebook(fake_llama()).can_be_kept
    assert not Notebook(fake_llama(lacks="session_persistence")).can_be_kept


def test_an_engine_that_fails_is_apologised_for(fake_llama: type[FakeLlama]) -> None:
    notebook = Notebook(fake_llama([FakeAnswer("Not", fails_after=2), "Noted."]))
    assert notebook.tell("Milk").startswith("Sorry")
    assert notebook.tell("Milk") == "Noted."
