"""Tests with the real demo model, once per backend; each says which capability it needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from notebook import Notebook

from llama_bridge import FallbackWarning, LlamaBridge, Mode, UnsupportedCapability


def test_it_answers(llama: LlamaBridge) -> None:
    assert Notebook(llama).tell("Hello!")


@pytest.mark.requires_capability("kv_continuation")
def test_a_second_note_costs_only_its_own_tokens(llama: LlamaBridge) -> None:
    Notebook(llama).tell("My name is Zanora.")
    held = len(llama.session().tokens)
    assert llama.generate_continue("What is my name?").usage.cached_tokens == held


@pytest.mark.requires_capability("session_persistence")
def test_a_conversation_survives_a_restart(llama: LlamaBridge, tmp_path: Path) -> None:
    notebook = Notebook(llama)
    notebook.tell("My name is Zanora.")
    notebook.keep(tmp_path / "notes.session")
    llama.session_reset()
    notebook.reopen(tmp_path / "notes.session")
    assert llama.session().messages[0]["content"] == "My name is Zanora."


@pytest.mark.lacks_capability("kv_continuation")
def test_without_continuation_nothing_is_passed_over_in_silence(llama: LlamaBridge) -> None:
    llama.generate("My name is Zanora.")
    with pytest.warns(FallbackWarning):
        answer = llama.generate_continue("What is my name?")
    assert answer.mode is Mode.FRESH
    assert answer.fallback


@pytest.mark.lacks_capability("session_persistence")
def test_without_persistence_no_save_is_offered(llama: LlamaBridge, tmp_path: Path) -> None:
    notebook = Notebook(llama)
    notebook.tell("Hello!")
    assert not notebook.can_be_kept
    with pytest.raises(UnsupportedCapability):
        notebook.keep(tmp_path / "notes.session")
