"""Where the native backend is not installed, a test that asks for it is skipped; in CI only if that was said.

What a test needs is found out where it asks: by ``backend="native"``, or by the fixture ``native_backend`` if another
process of its own will ask. Where native is installed nothing here does anything.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Generator

import pytest

from llama_bridge import BackendUnavailable, registry

__all__ = [
    "native_backend",
    "pytest_configure",
    "pytest_pyfunc_call",
    "pytest_runtest_setup",
]

_NATIVE = "native"


def pytest_configure(config: pytest.Config) -> None:
    """In CI nothing is left out unseen: a run without native says so, by ``--llama-backend wasm``."""
    why = _missing()
    if why is not None and os.environ.get("CI") and config.getoption("--llama-backend") is None:
        raise pytest.UsageError(
            f"the native backend is not available: {why}. In CI all backends are tested; to leave it out: "
            "--llama-backend wasm"
        )


@functools.cache
def _missing() -> str | None:
    """Why there is no native backend; None if there is."""
    return next(
        (found.reason for found in registry.probe_all() if found.name == _NATIVE and not found.ok),
        None,
    )


@pytest.fixture(scope="session")
def native_backend() -> None:
    """For a test whose processes use the native backend by its name."""
    registry.candidates(_NATIVE)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    """A test that asked for it in vain is skipped."""
    try:
        return (yield)
    except BackendUnavailable as error:
        _skip(error)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    """So is one whose fixtures did."""
    try:
        return (yield)
    except BackendUnavailable as error:
        _skip(error)
        raise


def _skip(error: BackendUnavailable) -> None:
    # Only ever asked for by name: left to choose, a bridge takes what there is.
    if error.backend == _NATIVE and _missing() is not None:
        pytest.skip("needs the native backend")
