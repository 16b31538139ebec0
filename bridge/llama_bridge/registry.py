"""Which backends there are, which can be used here, and which one is used."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Sequence
from typing import cast

from .capabilities import Capability
from .errors import BackendUnavailable, InvalidInput
from .params import ModelParams
from .progress import OnProgress
from .runtime import Availability, Backend, Model, Runtime, SessionStorage

__all__ = [
    "AUTO",
    "Choice",
    "ENVIRONMENT",
    "GROUP",
    "available_in",
    "backends",
    "candidates",
    "local_backends",
    "probe_all",
    "sandboxes",
    "unusable_in",
]

AUTO = "auto"
Choice = str | Backend | Sequence[str | Backend]
"""What ``backend=`` takes: a name, an object, or several, of which the first that works is taken."""
GROUP = "llama_bridge.backends"
"""Entry-point group: each entry names a :class:`Backend` object or class."""
ENVIRONMENT = "LLAMA_BRIDGE_BACKEND"

_log = logging.getLogger(__name__)


class _Broken(Backend):
    """An entry point that could not be loaded; it keeps the reason."""

    rank = -1
    capabilities = Capability(0)

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self._reason = reason

    def probe(self) -> Availability:
        return Availability(
            self.name, False, self._reason, "repair or uninstall the package that provides it"
        )

    def open(
        self,
        model: Model,
        params: ModelParams,
        storage: SessionStorage,
        on_progress: OnProgress | None,
    ) -> Runtime:
        raise BackendUnavailable(self.name, self._reason)


@functools.cache
def backends() -> tuple[Backend, ...]:
    """All installed backends, highest rank first, including broken ones, which say so."""
    from importlib.metadata import entry_points  # 20 ms: only needed to find a backend

    found: dict[str, Backend] = {}
    for entry in entry_points(group=GROUP):
        if entry.name in found:
            _log.warning("a second backend named %r is ignored: %s", entry.name, entry.value)
            continue
        found[entry.name] = _checked(entry.name, entry.value, entry.load)
    return tuple(sorted(found.values(), key=lambda backend: -backend.rank))


def _checked(name: str, origin: str, load: functools.partial[object] | object) -> Backend:
    try:
        made = load() if callable(load) else load
        backend = made() if isinstance(made, type) else made
        if not isinstance(backend, Backend):
            raise TypeError(f"{origin} is not a llama_bridge.Backend")
        if not isinstance(backend.rank, int) or not isinstance(backend.capabilities, Capability):
            raise TypeError(f"{origin} needs a rank (int) and capabilities (Capability)")
        backend.name = name
        return backend
    except Exception as error:  # third-party code: whatever it raises, the others must still work
        _log.warning("backend %r (%s) cannot be used: %s", name, origin, error)
        return _Broken(name, f"{type(error).__name__}: {error}")


def local_backends() -> list[Backend]:
    """Those that run models on this machine, and so may be taken without asking for them by name."""
    return [backend for backend in backends() if not backend.asks_servers]


def probe_all(*, servers: bool = False) -> list[Availability]:
    """What each backend reports, highest rank first; with ``servers`` also those that ask servers."""
    return [_probe(backend) for backend in (backends() if servers else local_backends())]


def _probe(backend: Backend) -> Availability:
    try:
        return backend.probe()
    except Exception as error:  # third-party code again
        return Availability(
            backend.name, False, f"its probe failed: {type(error).__name__}: {error}"
        )


def available_in(capability: Capability) -> list[str]:
    """Names of the backends that have a capability and can be used here, without asking for them by name."""
    return [backend.name for backend in _with(capability) if _probe(backend).ok]


def unusable_in(capability: Capability) -> str:
    """The backends that have a capability but cannot be used here, each with its reason; empty if there are none."""
    found = [_probe(backend) for backend in _with(capability)]
    return "; ".join(f"{each.name} has it, but {each.reason}" for each in found if not each.ok)


def _with(capability: Capability) -> list[Backend]:
    return [backend for backend in local_backends() if capability in backend.capabilities]


def sandboxes(choice: Choice = AUTO) -> list[Backend]:
    """The backends to try for a model that nobody vouches for, best first: those with a sandbox.

    What the environment names counts only if it has one.

    Raises:
        BackendUnavailable: there is none; says why and what to do.
        InvalidInput: the choice has none, or is neither a name nor a Backend.
    """
    flag = Capability.SANDBOX
    if choice == AUTO:
        found = [_probe(backend) for backend in _with(flag)]
        if usable := [each.name for each in found if each.ok]:
            first = os.environ.get(ENVIRONMENT, "")
            usable.sort(key=lambda name: name != first)
            _log.info("the model is untrusted, so it runs in the sandbox of %s", usable[0])
            return [backend for name in usable for backend in candidates(name)]
        why = (
            "; ".join(f"{each.name}: {each.reason}" for each in found) or "no backend here has one"
        )
        hint = "\n".join(each.hint for each in found if each.hint)
        raise BackendUnavailable(AUTO, f"an untrusted model needs a sandbox: {why}", hint)
    chosen = candidates(choice)
    for backend in chosen:
        if flag not in backend.capabilities:
            others = ", ".join(each.name for each in _with(flag)) or "there is none"
            raise InvalidInput(
                f"untrusted=True needs a sandbox, and backend={backend.name!r} has none: leave it out, or give one that "
                f"has: {others}"
            )
    return chosen


def candidates(choice: Choice = AUTO) -> list[Backend]:
    """The backends to try, best first.

    If an object or name is given, or the environment has a name, that is the only one; of several those that are
    available, in their order; otherwise all available.

    Raises:
        BackendUnavailable: there is none; says why and what to do.
        InvalidInput: the choice is neither a name nor a Backend, nor several of these.
    """
    if isinstance(choice, Backend):
        return [choice]
    if not isinstance(choice, str):
        return _several(choice)
    if choice == AUTO:
        choice = os.environ.get(ENVIRONMENT, "") or AUTO
    if choice == AUTO:
        usable = [backend for backend in local_backends() if _probe(backend).ok]
        if not usable:
            found = probe_all()
            reasons = "; ".join(f"{a.name}: {a.reason}" for a in found) or "none is installed"
            hint = (
                "\n".join(a.hint for a in found if a.hint)
                or "pip install --force-reinstall llama-bridge"
            )
            raise BackendUnavailable(AUTO, reasons, hint)
        return usable
    named = [backend for backend in backends() if backend.name == choice]
    availability = _probe(named[0]) if named else None
    if availability is not None and availability.ok:
        return named
    others = [a.name for a in probe_all() if a.ok and a.name != choice]
    way_out = f"or use one that is available here: {', '.join(others)}" if others else ""
    if availability is None:
        raise BackendUnavailable(choice, "no backend of that name is installed", way_out)
    hint = "\n".join(line for line in (availability.hint, way_out) if line)
    raise BackendUnavailable(choice, availability.reason, hint)


def _several(choice: object) -> list[Backend]:
    """Those of several that are available.

    Raises:
        BackendUnavailable: none is; has the reasons of all.
        InvalidInput.
    """
    given = cast("Sequence[object]", choice)
    if not isinstance(choice, list | tuple) or not given:
        raise InvalidInput(
            f"backend={choice!r}: give a name, a Backend object, {AUTO!r}, or a list of these"
        )
    found: list[Backend] = []
    refused: list[BackendUnavailable] = []
    for one in given:
        if not isinstance(one, str | Backend):
            raise InvalidInput(f"backend={choice!r} has {one!r}: give names or Backend objects")
        try:
            found += [each for each in candidates(one) if each not in found]
        except BackendUnavailable as error:
            refused.append(error)
            _log.info("%s; trying the next backend", error)
    if not found:
        reasons = "; ".join(f"{error.backend}: {error.reason}" for error in refused)
        hints = dict.fromkeys(line for error in refused for line in error.hint.splitlines())
        raise BackendUnavailable(
            ", ".join(error.backend for error in refused), reasons, "\n".join(hints)
        )
    return found
