"""For test suites: a pytest plugin, a fake that needs no model, and the contracts as tests.

With llama-bridge installed, pytest has these without further setup (``-p no:llama_bridge`` disables them):

- the fixture ``llama``: the demo model, once for each backend of ``--llama-backend native,wasm``;
- the fixture ``llama_backend``: only the backend's name, for tests that load their own model;
- the fixture ``fake_llama``: the class :class:`FakeLlama`, deterministic, without a model; call it to make one;
- ``@pytest.mark.requires_capability("session_persistence")`` and ``lacks_capability``.

.. code-block:: text

    plugin.py        what options, markers and fixtures do; they are declared in llama_bridge_pytest
    gates.py         the two markers, and what they skip
    adapters.py      write_adapter: a LoRA adapter with random weights
    shared.py        one loaded model for many tests
    fake/            FakeLlama: the real LlamaBridge over FakeBackend and FakeEngine
    hub/             HubServer: a hub on this machine, with faults on demand
    conformance.py   BackendConformance, for those who write an engine; what it must refuse is in
                     conformance_misuse.py, how it draws in conformance_sampling.py, how it checks
                     guesses in conformance_ahead.py, embeddings in conformance_embedding.py, adapters in
                     conformance_adapters.py, several sequences in conformance_parallel.py, fixtures in
                     conformance_base.py
    runtime_conformance.py
                     RuntimeConformance, for those who write a runtime that answers in text

Nothing here imports pytest by itself, so an application can use the fake too. A run that uses none of this pays for the
declarations only.
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
