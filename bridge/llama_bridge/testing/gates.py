"""The markers ``requires_capability`` and ``lacks_capability``: what they require, and why a test is skipped."""

from __future__ import annotations

import pytest

from llama_bridge_pytest import LACKS, REQUIRES

from ..capabilities import Capability, as_capability, capability_names
from ..errors import InvalidInput

__all__ = ["asked_of", "check_markers", "reason_to_skip"]


def asked_of(item: pytest.Item, marker: str) -> Capability:
    """The flags in all markers of this name on a test.

    Raises:
        InvalidInput: a name is not a capability, or a marker has none.
    """
    flags = Capability(0)
    for mark in item.iter_markers(marker):
        flags |= _flags(mark)
    return flags


def _flags(mark: pytest.Mark) -> Capability:
    if not mark.args or mark.kwargs:
        raise InvalidInput(f'{mark.name} takes names: @pytest.mark.{mark.name}("kv_continuation")')
    flags = Capability(0)
    for given in mark.args:
        if not isinstance(given, str | Capability):
            raise InvalidInput(f"{mark.name}({given!r}): give a name or a Capability")
        flags |= as_capability(given)
    return flags


def check_markers(item: pytest.Item, *, gated: bool) -> None:
    """Check a test's markers during collection.

    Raises:
        InvalidInput: they cannot be read, or the test uses no backend.
    """
    for marker in (REQUIRES, LACKS):
        asked_of(item, marker)
        own = [node for node, _ in item.iter_markers_with_node(marker) if node is item]
        if own and not gated:
            raise InvalidInput(
                f"{marker} has no effect here: the test uses neither the fixture llama nor llama_backend"
            )


def reason_to_skip(item: pytest.Item, marker: str, has: Capability, who: str) -> str | None:
    """Why a test is not for ``who``, which has these capabilities; None if it is."""
    asked = asked_of(item, marker)
    if marker == REQUIRES:
        missing = capability_names(asked & ~has)
        return f"{who} lacks {', '.join(missing)}" if missing else None
    present = capability_names(asked & has)
    return f"{who} has {', '.join(present)}: only for those without" if present else None
