"""A llama.cpp that needs no model and says what the test tells it to. All of it goes through LlamaBridge."""

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
