"""A fake llama.cpp that needs no model and gives the answers that a test sets. It runs under the real LlamaBridge.

.. code-block:: text

    llama.py      FakeLlama: a bridge on the fake, ready for the code under test
    backend.py    FakeBackend: holds the answers
    engine.py     FakeEngine: follows the whole engine contract, computes nothing
    answers.py    the answers and what was asked
    constrained.py
                  makes an answer fit a grammar
    vectors.py    its embeddings
    model.py      its own GGUF file
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
