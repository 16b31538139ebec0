"""What the pytest plugin does in a run that uses llama-bridge. Hooks and fixtures are in ``llama_bridge_pytest``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llama_bridge_pytest import LACKS, REQUIRES

from .. import registry
from .._version import __version__
from ..bridge import LlamaBridge
from ..capabilities import Capability
from ..errors import BackendUnavailable, InvalidInput, ModelError
from ..models.source import DEMO
from ..runtime import Availability
from .fake import FakeLlama
from .gates import check_markers, reason_to_skip
from .shared import SharedModel

__all__ = [
    "backends_of_run",
    "closing_fakes",
    "gate",
    "header",
    "lend",
    "selection",
    "shared_model",
    "usable_backend",
]


@dataclass(frozen=True, slots=True)
class _Selection:
    """The backends of this run.

    Attributes:
        names: those that tests run on.
        found: what each installed backend reports.
        capabilities: what each can do at best.
    """

    names: tuple[str, ...]
    found: dict[str, Availability]
    capabilities: dict[str, Capability]


_SELECTION = pytest.StashKey[_Selection]()


def selection(config: pytest.Config) -> _Selection:
    """The backends of this run: from the option, the ini value, or all that are available.

    Raises:
        pytest.UsageError: no backend of that name is installed.
    """
    if _SELECTION in config.stash:
        return config.stash[_SELECTION]
    found = {availability.name: availability for availability in registry.probe_all(servers=True)}
    option: str | None = config.getoption("--llama-backend")
    named = (str(config.getini("llama_backend")) or None) if option is None else option
    if named is None:
        names = tuple(state.name for state in registry.probe_all() if state.ok)
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


def backends_of_run(config: pytest.Config) -> Sequence[str]:
    """The backends that tests run on. If there are none, the fixture is set up anyway, to say why."""
    return selection(config).names or (registry.AUTO,)


def header(config: pytest.Config) -> str:
    """The version, the backends of this run, and why the others are missing."""
    chosen = selection(config)
    used = [
        f"{name} ({chosen.found[name].version or 'no version'})"
        for name in chosen.names
        if chosen.found[name].ok
    ]
    missing = [
        f"{name} unavailable: {availability.reason}"
        for name, availability in chosen.found.items()
        if not availability.ok
    ]
    return f"llama-bridge {__version__}: {'; '.join([', '.join(used) or 'no backend', *missing])}"


def gate(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Check every marker, and skip what the backend cannot do with any model.

    Raises:
        pytest.UsageError: a marker cannot be read or has no effect.
    """
    wrong: list[str] = []
    for item in items:
        name = _backend_of(item)
        try:
            check_markers(item, gated=name is not None)
        except InvalidInput as error:
            wrong.append(f"{item.nodeid}: {error}")
            continue
        if name is not None and name in selection(config).names:
            _gate(item, name, selection(config))
    if wrong:
        raise pytest.UsageError(*wrong)


def _backend_of(item: pytest.Item) -> str | None:
    callspec = getattr(item, "callspec", None)
    name = None if callspec is None else callspec.params.get("llama_backend")
    return name if isinstance(name, str) else None


def _gate(item: pytest.Item, name: str, chosen: _Selection) -> None:
    if not chosen.found[name].ok:
        return  # it was requested by name: the fixture fails and says why
    markers = [REQUIRES]
    if "llama" not in getattr(item, "fixturenames", ()):
        markers.append(LACKS)  # with a model, what is missing is known only after loading it
    for marker in markers:
        reason = reason_to_skip(item, marker, chosen.capabilities[name], f"the {name} backend")
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


def usable_backend(name: str) -> str:
    """The name, if the backend can be used; otherwise the test fails and says why."""
    try:
        registry.candidates(name)
    except BackendUnavailable as error:
        pytest.fail(str(error), pytrace=False)
    return name


def shared_model(config: pytest.Config, backend: str) -> SharedModel:
    """The model of the fixture ``llama``, not loaded yet."""
    option: str | None = config.getoption("--llama-model")
    model = str(config.getini("llama_model")) or DEMO if option is None else option
    if option is None and model != DEMO and config.inipath is not None:
        model = str(config.inipath.parent / Path(model).expanduser())
    return SharedModel(model, backend)


def lend(request: pytest.FixtureRequest, shared: SharedModel) -> LlamaBridge:
    """The loaded model, as new. Skips the test if it is not for this model, and fails it if loading fails."""
    try:
        bridge = shared.take()
    except (BackendUnavailable, ModelError) as error:
        pytest.fail(f"{type(error).__name__}: {error}", pytrace=False)
    backend = f"the {bridge.backend} backend"
    with_model = f"{backend} with {bridge.where or bridge.model.name}"  # what no model can do here was skipped already
    for marker, who in ((REQUIRES, with_model), (LACKS, backend)):
        reason = reason_to_skip(request.node, marker, bridge.capabilities, who)
        if reason is not None:
            pytest.skip(reason)
    return bridge


def closing_fakes() -> Iterator[type[FakeLlama]]:
    """FakeLlama for one test; the instances are closed afterwards."""
    made: list[LlamaBridge] = []

    class ClosedByTheTest(FakeLlama):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    yield ClosedByTheTest
    for bridge in made:
        bridge.close()
