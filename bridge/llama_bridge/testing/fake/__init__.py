"""A llama.cpp that needs no model and says what the test tells it to. All of it goes through LlamaBridge.

.. code-block:: text

    llama.py      FakeLlama: a bridge on it, ready for the code under test
    backend.py    FakeBackend: takes the answers
    engine.py     FakeEngine: minds the whole engine contract, computes nothing
    answers.py    what can be said, and what was asked
    model.py      the GGUF that it brings
"""

from __future__ import annotations

from .answers import Answer, Answers, Asked, FakeAnswer, babble, echo
from .backend import FakeBackend
from .engine import FakeEngine
from .llama import FakeLlama

__all__ = [
    "Answer",
    "Answers",
    "Asked",
    "FakeAnswer",
    "FakeBackend",
    "FakeEngine",
    "FakeLlama",
    "babble",
    "echo",
]
