"""Capability flags by their names, as tests write them."""

from __future__ import annotations

from collections.abc import Iterable

from ..capabilities import Capability, capability_names
from ..errors import InvalidInput

__all__ = ["parse_capability"]


def parse_capability(names: str | Iterable[str]) -> Capability:
    """The flags of these names, in any case.

    Raises:
        InvalidInput: for a name that is no capability; lists those that are.
    """
    flags = Capability(0)
    for name in [names] if isinstance(names, str) else names:
        try:
            flags |= Capability[name.upper()]
        except KeyError:
            known = ", ".join(capability_names(~Capability(0)))
            raise InvalidInput(f"no capability named {name!r}; there are: {known}") from None
    return flags
