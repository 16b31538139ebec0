"""What pytest sees: options, header, the selection of backends, fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .. import registry
from .._version import __version__
from ..bridge import LlamaBridge
from ..capabilities import Capability
from ..engine import Engine
from ..errors import BackendUnavailable, InvalidInput, ModelError
from ..models.source import DEMO
from ..runtime import Availability
from .fake import FakeLlama
from .gates import LACKS, MARKERS, REQUIRES, check_markers, reason_to_skip
from .shared import SharedModel

__all__ = ["fake_llama", "llama", "llama_backend"]

pytest.register_assert_rewrite(
    "llama_bridge.testing.conformance",
    "llama_bridge.testing.conformance_base",
    "llama_bridge.testing.runtime_conformance",
)


@dataclass(frozen=True, slots=True)
class _Selection:
    """The backends of this run.

    Attributes:
        names: those that tests run on.
        found: what each installed backend says of itself.
        capabilities: what each can do at best.
    """

    names: tuple[str, ...]
    found: dict[str, Availability]
    capabilities: dict[str, Capability]


_SELECTION = pytest.StashKey[_Selection]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Two options, each also an ini value."""
    group = parser.getgroup("llama-bridge")
    backends = "backends to test on, as native,wasm; all that are available here if not given"
    model = f"GGUF model of the fixture llama; {DEMO!r}, the one in the package, if not given"
    group.addoption("--llama-backend", metavar="NAMES", help=backends)
    group.addoption("--llama-model", metavar="PATH", help=model)
    parser.addini("llama_backend", backends)
    parser.addini("llama_model", f"{model}. Relative to the ini file")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers; refuse backends that nobody has heard of."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    if _named(config) is not None:
        _selection(config)


def _named(config: pytest.Config) -> str | None:
    option: str | None = config.getoption("--llama-backend")
    ini = str(config.getini("llama_backend"))
    return ini or None if option is None else option


def _selection(config: pytest.Config) -> _Selection:
    if _SELECTION in config.stash:
        return config.stash[_SELECTION]
    found = {availability.name: availability for availability in registry.probe_all()}
    named = _named(config)
    if named is None:
        names = tuple(name for name, availability in found.items() if availability.ok)
    else:
        names = tuple(dict.fromkeys(name.strip() for name in named.split(",")))
        unknown = [name for name in names if name not in found]
        if unknown:
            raise pytest.UsageError(
                f"llama-backend: no backend named {', '.join(map(repr, unknown))}; "
                f"installed: {', '.join(found) or 'none'}"
            )
    capabilities = {backend.name: backend.capabilities for backend in registry.backends()}
    config.stash[_SELECTION] = _Selection(names, found, capabilities)
    return config.stash[_SELECTION]


def _model(config: pytest.Config) -> str:
    option: str | None = config.getoption("--llama-model")
    if option is not None:
        return option
    ini = str(config.getini("llama_model"))
    if ini and ini != DEMO and config.inipath is not None:
        return str(config.inipath.parent / Path(ini).expanduser())
    return ini or DEMO


def pytest_report_header(config: pytest.Config) -> str:
    """The version, the backends of this run, and why the others are missing."""
    selection = _selection(config)
    used = [
        f"{name} ({selection.found[name].version or 'no version'})"
        for name in selection.names
        if selection.found[name].ok
    ]
    missing = [
        f"{name} unavailable: {availability.reason}"
        for name, availability in selection.found.items()
        if not availability.ok
    ]
    return f"llama-bridge {__version__}: {'; '.join([', '.join(used) or 'no backend', *missing])}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One run per backend for every test that uses one."""
    if "llama_backend" in metafunc.fixturenames:
        # With none to choose from the fixture is set up all the same, to say why there is none.
        names = _selection(metafunc.config).names or (registry.AUTO,)
        metafunc.parametrize("llama_backend", names, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Check every marker, and skip what the backend cannot do with any model: nothing is loaded for it."""
    wrong: list[str] = []
    for item in items:
        name = _backend_of(item)
        try:
            check_markers(item, gated=name is not None)
        except InvalidInput as error:
            wrong.append(f"{item.nodeid}: {error}")
            continue
        if name is not None and name in _selection(config).names:
            _gate(item, name, _selection(config))
    if wrong:
        raise pytest.UsageError(*wrong)


def _backend_of(item: pytest.Item) -> str | None:
    callspec = getattr(item, "callspec", None)
    name = None if callspec is None else callspec.params.get("llama_backend")
    return name if isinstance(name, str) else None


def _gate(item: pytest.Item, name: str, selection: _Selection) -> None:
    if not selection.found[name].ok:
        return  # it was asked for by name: the fixture fails and says why
    markers = [REQUIRES]
    if "llama" not in getattr(item, "fixturenames", ()):
        markers.append(LACKS)  # with a model, what is lacking is known only when it is loaded
    for marker in markers:
        reason = reason_to_skip(item, marker, selection.capabilities[name], f"the {name} backend")
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def llama_backend(request: pytest.FixtureRequest) -> str:
    """Name of the backend that this run of the test is for, to load a model of your own on.

    A backend that was asked for by name and is not available is an error, with reason and hint.
    """
    name: str = request.param
    try:
        registry.candidates(name)
    except BackendUnavailable as error:
        pytest.fail(str(error), pytrace=False)
    return name


@pytest.fixture(scope="session")
def _llama_model(llama_backend: str, pytestconfig: pytest.Config) -> Iterator[SharedModel]:
    shared = SharedModel(_model(pytestconfig), llama_backend)
    yield shared
    shared.close()


@pytest.fixture
def llama(request: pytest.FixtureRequest, _llama_model: SharedModel) -> Iterator[LlamaBridge]:
    """The demo model (or --llama-model), once for each backend of --llama-backend.

    It is loaded once; every test finds an empty session, greedy sampling and no system message, whatever
    the test before it did.
    """
    try:
        bridge = _llama_model.take()
    except (BackendUnavailable, ModelError) as error:
        pytest.fail(f"{type(error).__name__}: {error}", pytrace=False)
    backend = f"the {bridge.backend} backend"
    with_model = (
        f"{backend} with {bridge.model.name}"  # what it lacks with any model was skipped already
    )
    for marker, who in ((REQUIRES, with_model), (LACKS, backend)):
        reason = reason_to_skip(request.node, marker, bridge.capabilities, who)
        if reason is not None:
            pytest.skip(reason)
    yield bridge
    _llama_model.put_back()


@pytest.fixture
def fake_llama() -> Iterator[type[FakeLlama]]:
    """FakeLlama: call it with answers, capabilities and failures; the end of the test closes what it made."""
    made: list[LlamaBridge] = []

    class ClosedByTheTest(FakeLlama):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    yield ClosedByTheTest
    for bridge in made:
        bridge.close()


@pytest.fixture(scope="class")
def _engines_of_class() -> Iterator[dict[str, Engine]]:
    """What the tests of a BackendConformance class have loaded, by backend."""
    engines: dict[str, Engine] = {}
    yield engines
    for engine in engines.values():
        engine.close()
