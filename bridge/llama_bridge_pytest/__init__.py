"""What pytest loads in every run if llama-bridge is installed: only declarations, nothing that costs time.

Options, markers and fixtures are declared here. What they do is in ``llama_bridge.testing.plugin``, which is imported
when a test, an option or an ini value first needs it. This is a separate package because importing anything from
``llama_bridge`` imports all of it, which an unrelated run should not pay for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from llama_bridge import Engine, LlamaBridge
    from llama_bridge.testing import FakeLlama
    from llama_bridge.testing.shared import SharedModel

__all__ = ["LACKS", "REQUIRES", "fake_llama", "llama", "llama_backend"]

REQUIRES = "requires_capability"
LACKS = "lacks_capability"
_MARKERS = (
    f"{REQUIRES}(*capabilities): names or Capability flags; skips the test on a backend, or with a model, "
    "that lacks one of them. For tests that use the fixture llama or llama_backend",
    f"{LACKS}(*capabilities): runs the test only if all of these are missing, to test what happens then",
)
_IS_USED = pytest.StashKey[bool]()

pytest.register_assert_rewrite(
    "llama_bridge.testing.conformance",
    "llama_bridge.testing.conformance_base",
    "llama_bridge.testing.runtime_conformance",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Two options, each also an ini value."""
    group = parser.getgroup("llama-bridge")
    backends = "backends to test on, such as native,wasm; default: all that are available here"
    model = "GGUF model for the fixture llama; default: 'demo', the packaged model"
    group.addoption("--llama-backend", metavar="NAMES", help=backends)
    group.addoption("--llama-model", metavar="PATH", help=model)
    parser.addini("llama_backend", backends)
    parser.addini("llama_model", f"{model}. Relative to the ini file")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers and refuse unknown backends."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    if _is_set_up(config):
        from llama_bridge.testing.plugin import selection  # 100 ms, see above

        selection(config)


def _is_set_up(config: pytest.Config) -> bool:
    """Whether one of our options or ini values is set."""
    return any(
        config.getoption(f"--{name.replace('_', '-')}") is not None or config.getini(name)
        for name in ("llama_backend", "llama_model")
    )


def pytest_report_header(config: pytest.Config) -> str | None:
    """The backends of this run, if it was set up for some."""
    return _header(config) if _is_set_up(config) else None


def pytest_report_collectionfinish(config: pytest.Config) -> str | None:
    """The same, if only the collected tests show that the run uses backends."""
    used = config.stash.get(_IS_USED, False)
    return _header(config) if used and not _is_set_up(config) else None


def _header(config: pytest.Config) -> str:
    from llama_bridge.testing.plugin import header  # 100 ms, see above

    return header(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that uses a backend once per backend."""
    if "llama_backend" in metafunc.fixturenames:
        from llama_bridge.testing.plugin import backends_of_run  # 100 ms, see above

        names = backends_of_run(metafunc.config)
        metafunc.parametrize("llama_backend", names, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Check every marker, and skip what the backend cannot do with any model, without loading one."""
    if any(_uses_backends(item) for item in items):
        from llama_bridge.testing.plugin import gate  # 100 ms, see above

        config.stash[_IS_USED] = True
        gate(config, items)


def _uses_backends(item: pytest.Item) -> bool:
    return "llama_backend" in getattr(item, "fixturenames", ()) or any(
        mark.name in (REQUIRES, LACKS) for mark in item.iter_markers()
    )


@pytest.fixture(scope="session")
def llama_backend(request: pytest.FixtureRequest) -> str:
    """Name of the backend for this run of the test, to load your own model on.

    If a backend was requested by name and is not available, the test fails with the reason and a hint.
    """
    from llama_bridge.testing.plugin import usable_backend  # 100 ms, see above

    return usable_backend(request.param)


@pytest.fixture(scope="session")
def _llama_model(llama_backend: str, pytestconfig: pytest.Config) -> Iterator[SharedModel]:
    from llama_bridge.testing.plugin import shared_model  # 100 ms, see above

    shared = shared_model(pytestconfig, llama_backend)
    yield shared
    shared.close()


@pytest.fixture
def llama(request: pytest.FixtureRequest, _llama_model: SharedModel) -> Iterator[LlamaBridge]:
    """The demo model (or --llama-model), once for each backend of --llama-backend.

    It is loaded once; every test finds an empty session, greedy sampling and no system message, whatever
    the test before it did.
    """
    from llama_bridge.testing.plugin import lend  # 100 ms, see above

    yield lend(request, _llama_model)
    _llama_model.put_back()


@pytest.fixture
def fake_llama() -> Iterator[type[FakeLlama]]:
    """FakeLlama: call it with answers, capabilities and failures. Its instances are closed after the test."""
    from llama_bridge.testing.plugin import closing_fakes  # 100 ms, see above

    yield from closing_fakes()


@pytest.fixture(scope="class")
def _engines_of_class() -> Iterator[dict[str, Engine]]:
    """Engines loaded by the tests of a BackendConformance class, by backend."""
    engines: dict[str, Engine] = {}
    yield engines
    for engine in engines.values():
        engine.close()
