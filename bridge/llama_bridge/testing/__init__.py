"""For test suites: a pytest plugin, a fake that needs no model, and the contract as tests.

With llama-bridge installed pytest loads this by itself (``-p no:llama_bridge`` leaves it out) and has

- the fixture ``llama``: the demo model, once for each backend of ``--llama-backend native,wasm``;
- the fixture ``llama_backend``: only the backend's name, for tests that load a model of their own;
- the fixture ``fake_llama``: the class :class:`FakeLlama`, deterministic, without a model; call it;
- ``@pytest.mark.requires_capability("session_persistence")`` and ``lacks_capability``.

.. code-block:: text

    plugin.py        options, header, fixtures
    gates.py         the two markers, and what they skip
    shared.py        one loaded model for many tests
    fake/            FakeLlama: the real LlamaBridge over FakeBackend and FakeEngine
    conformance.py   BackendConformance, for people who write a backend; fixtures in conformance_base.py

Nothing here imports pytest before pytest loads the plugin, so an application can use the fake too.
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

__all__ = [
    "Answer",
    "Answers",
    "Asked",
    "BackendConformance",
    "FakeAnswer",
    "FakeBackend",
    "FakeEngine",
    "FakeLlama",
    "babble",
    "echo",
]

pytest_plugins = ["llama_bridge.testing.plugin"]


def __getattr__(name: str) -> object:
    if (
        name == "BackendConformance"
    ):  # late: it imports pytest, which then shows its asserts in full
        from .conformance import BackendConformance

        return BackendConformance
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
