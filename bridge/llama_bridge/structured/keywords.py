"""The clauses of literals: what schemas demand that must hold, or must not."""

from __future__ import annotations

from ..errors import InvalidSchema
from .demands import Demands, Disjoint
from .document import Document
from .effects import TRUE, Clause, groups
from .nodes import Literal
from .opposites import Opposites

__all__ = ["Keywords"]


class Keywords:
    """The clauses of literals of one document; arguments as for :class:`~.demands.Demands`."""

    def __init__(self, document: Document, disjoint: Disjoint, formats: bool) -> None:
        self._demands = Demands(document, disjoint, formats)
        self._opposites = Opposites(self._demands)

    @property
    def lost(self) -> list[InvalidSchema]:
        """Why alternatives were left out."""
        return self._opposites.lost

    def clauses(self, literal: Literal, of: str, wide: bool) -> list[Clause]:
        """What a literal demands of values of the type ``of``."""
        place = literal.place
        if isinstance(place.schema, bool):
            return [] if place.schema is literal.positive else [[]]
        if literal.positive:
            found: list[Clause] = []
            for group in groups(place, of):
                found += self._demands.clauses(place, group, of, wide)
                if [] in found:
                    return [[]]  # before what is not asked for is refused
            return found
        alternatives: Clause = []
        for group in groups(place, of):
            opposite = self._opposites.alternatives(place, group, of, wide)
            if opposite == TRUE:
                return []
            alternatives += opposite
        return [alternatives]
