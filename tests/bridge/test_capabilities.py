"""One rule for the names of flags, wherever somebody writes one."""

from __future__ import annotations

import enum
from typing import Any

import pytest

from llama_bridge import Capability, InvalidInput, LlamaBridge, UnsupportedCapability
from llama_bridge.capabilities import as_capability
from llama_bridge.testing import FakeLlama

SPELLINGS = [
    "session_persistence",
    "SESSION_PERSISTENCE",
    "session-persistence",
    " Session-Persistence ",
]


@pytest.fixture
def able() -> LlamaBridge:
    return FakeLlama()


@pytest.fixture
def poor() -> LlamaBridge:
    return FakeLlama(lacks="session_persistence")


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_name_is_a_flag_in_any_case_with_hyphens_or_without(
    name: str, able: LlamaBridge, poor: LlamaBridge
) -> None:
    assert name in able.capabilities
    assert name not in poor.capabilities
    able.requires(name)
    with pytest.raises(UnsupportedCapability) as caught:
        poor.requires(name)
    assert caught.value.capability is Capability.SESSION_PERSISTENCE
    assert FakeLlama(lacks=[name]).capabilities == poor.capabilities
    assert as_capability([name, Capability.STREAM]) == (
        Capability.SESSION_PERSISTENCE | Capability.STREAM
    )


@pytest.mark.parametrize("wrong", ["session", "", "kv continuation", "capability.stream", "\ud800"])
def test_a_name_that_is_no_flag_is_refused_and_those_there_are_are_listed(
    wrong: str, able: LlamaBridge
) -> None:
    for ask in (
        able.requires,
        able.capabilities.__contains__,
        lambda name: FakeLlama(lacks=name),
        lambda name: FakeLlama(capabilities=[name]),
    ):
        with pytest.raises(InvalidInput, match=r"no capability named .*generate, stream, cancel"):
            ask(wrong)


class Another(enum.Flag):
    STREAM = 1


@pytest.mark.parametrize(
    "wrong", [None, 5, 2.5, object(), b"stream", [None], [["stream"]], Another.STREAM]
)
def test_what_is_no_name_is_refused(wrong: Any, able: LlamaBridge) -> None:
    with pytest.raises(InvalidInput, match="no capability"):
        able.requires(wrong)
    with pytest.raises(InvalidInput, match="no capability"):
        assert wrong in able.capabilities


def test_flags_are_compared_as_before(able: LlamaBridge) -> None:
    assert Capability.STREAM | Capability.TOKENS in able.capabilities
    assert Capability.SANDBOX | Capability.TOKENS not in able.capabilities
    assert Capability(0) in able.capabilities
    assert list(Capability.STREAM | Capability.TOKENS) == [Capability.STREAM, Capability.TOKENS]
