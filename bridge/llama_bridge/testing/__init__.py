"""For test suites: a pytest plugin, a fake that needs no model, and the contract as tests.

With llama-bridge installed pytest has, by itself (``-p no:llama_bridge`` leaves it out),

- the fixture ``llama``: the demo model, once for each backend of ``--llama-backend native,wasm``;
- the fixture ``llama_backend``: only the backend's name, for tests that load a model of their own;
- the fixture ``fake_llama``: the class :class:`FakeLlama`, deterministic, without a model; call it;
- ``@pytest.mark.requires_capability("session_persistence")`` and ``lacks_capability``.

.. code-block:: text

    plugin.py        what options, markers and fixtures do; they are declared in llama_bridge_pytest
    gates.py         the two markers, and what they skip
    shared.py        one loaded model for many tests
    fake/            FakeLlama: the real LlamaBridge over FakeBackend and FakeEngine
    conformance.py   BackendConformance, for who writes an engine; what an engine must refuse is in
                     conformance_misuse.py, fixtures are in conformance_base.py
    runtime_conformance.py
                     RuntimeConformance, for who writes a runtime that answers in text

Nothing here imports pytest by itself, so an application can use the fake too. A run that uses none of it pays for the
declarations alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .fake import (
    Answer,
    Answers,
    Asked,
    FakeAnswer,
    FakeBackend,
    FakeEngine,
    FakeLlama,
    babble,
    echo,
)

if TYPE_CHECKING:
    from .conformance import BackendConformance
    from .runtime_conformance import RuntimeConformance

__all__ = [
    "Answer",
    "Answers",
    "Asked",
    "BackendConformance",
    "FakeAnswer",
    "FakeBackend",
    "FakeEngine",
    "FakeLlama",
    "RuntimeConformance",
    "babble",
    "echo",
]


def __getattr__(name: str) -> object:
    # Late: they import pytest (150 ms), which then shows their asserts in full.
    if name == "BackendConformance":
        from .conformance import BackendConformance

        return BackendConformance
    if name == "RuntimeConformance":
        from .runtime_conformance import RuntimeConformance

        return RuntimeConformance
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
