"""Writes the grammar of a schema: values, strings, numbers. Objects and arrays have files of their own."""

from __future__ import annotations

from fractions import Fraction

from ..errors import InvalidSchema
from .arrays import write_array
from .charset import ANY
from .document import dumps
from .language import Automaton, TooLarge, automaton, word_automaton
from .meaning import Meaning
from .nodes import Arrays, Booleans, Key, Node, Nulls, Numbers, Objects, Strings, Values
from .numbers import TooFine, digits, listed
from .objects import write_object
from .plan import Planner
from .rules import Rules, TooMany, json_characters, one_of, quoted

__all__ = ["grammar"]

DEPTHS = (10, 6, 4, 3, 2, 1)
"""How often a schema may contain itself, from inside to outside: the first for which the grammar is not too large."""
DEEPER = (20, 40)
"""For schemas that have no value within the first."""
LONGEST = 1_000_000
SHORTER = (256, 64, 16)
"""Greatest lengths for a pattern whose automaton would be too large with the one that is asked for."""


def grammar(meaning: Meaning, root: Key) -> str:
    """The grammar of values that satisfy all literals.

    Raises:
        InvalidSchema: something that cannot be enforced, or no value at all.
    """
    planner = Planner(meaning)
    planner.explore(root)
    too_large = False
    for depth in (*DEPTHS, *DEEPER):
        if too_large and depth in DEEPER:
            break
        try:
            writer = _Writer(planner, depth)
            start = writer.value(root)
            if start is not None:
                return writer.rules.text(start)
        except (TooMany, RecursionError):
            too_large = True
            continue
        if not too_large and depth in DEPTHS:
            if not planner.recursive:
                break
            continue
    if too_large:
        raise InvalidSchema("#", "", "it needs too large a grammar: make it smaller")
    if meaning.lost:
        raise meaning.lost[0]
    raise InvalidSchema("#", "", "no value satisfies it, or none that can be written")


class _Writer:
    """Writes rules; what contains itself at most ``depth`` times."""

    def __init__(self, planner: Planner, depth: int) -> None:
        self.planner = planner
        self.rules = Rules()
        self._depth = depth
        self._values: dict[tuple[Key, int], str | None] = {}
        self._plain: dict[Node, str | None] = {}
        self._machines: dict[Automaton, str] = {}
        self._component: int | None = None
        self._left = 0

    def value(self, key: Key) -> str | None:
        """The rule for values that satisfy all literals, or None if there are none."""
        component = self.planner.component(key)
        before = self._component, self._left
        if component is None:
            left = 0
        elif component == self._component:
            left = self._left - 1
            if left <= 0:
                return None
        else:
            left = self._depth
        if (key, left) in self._values:
            return self._values[key, left]
        if component is not None:
            self._component, self._left = component, left
        try:
            result = self._written(key)
        finally:
            self._component, self._left = before
        self._values[key, left] = result
        return result

    def _written(self, key: Key) -> str | None:
        for nodes in self.planner.nodes(key):
            found = [rule for node in nodes if (rule := self._node(node, key)) is not None]
            if found:
                return found[0] if len(found) == 1 else self.rules.choice(found, "value")
        return None

    def _node(self, node: Node, key: Key) -> str | None:
        match node:
            case Arrays():
                return write_array(self, node)
            case Objects():
                return write_object(self, self.planner.objects(node))
            case _:
                if node not in self._plain:
                    self._plain[node] = self._scalar(node, key)
                return self._plain[node]

    def _scalar(self, node: Node, key: Key) -> str | None:
        match node:
            case Nulls():
                return self.rules.add('"null"', "null")
            case Booleans():
                texts = [dumps(one) for one in (True, False) if one in node.values]
                return self.rules.add(one_of(texts), "boolean") if texts else None
            case Values():
                return self.texts(node.values)
            case Numbers():
                return self._number(node, key)
            case Strings():
                return self._string(node, key)
            case _:
                raise AssertionError(node)

    def texts(self, texts: tuple[str, ...]) -> str:
        """A rule for one of those texts."""
        if len(texts) <= 3:
            return self.rules.add(one_of(texts), "value")
        return self.rules.automaton(word_automaton(texts), "", False, "value")

    def _number(self, node: Numbers, key: Key) -> str | None:
        if node == Numbers():
            whole = self._whole()
            return self.rules.add(
                f'"-"? {whole} ("." [0-9]{{1,15}})? ([eE] [+\\-]? [0-9]{{1,2}})?', "number"
            )
        if node == Numbers().multiples(_ONE):
            return self.rules.add(f'{self._whole()} | "-" [1-9] [0-9]{{0,14}}', "integer")
        if node.multiple != _ONE and (texts := listed(node)) is not None:
            return self.texts(tuple(texts)) if texts else None
        try:
            below, above = digits(node)
        except TooFine as error:
            raise _refused(key, "multipleOf", "it needs too large a grammar") from error
        ways: list[str] = []
        if above is not None:
            ways.append(self.rules.automaton(above, "", False, "n"))
        if below is not None:
            ways.append('"-" ' + self.rules.automaton(below, "", False, "n"))
        return self.rules.choice(ways, "number") if ways else None

    def _whole(self) -> str:
        return self.rules.add('"0" | [1-9] [0-9]{0,14}', "whole")

    def _string(self, node: Strings, key: Key) -> str | None:
        if not node.languages:
            most = None if node.most is None else min(node.most, LONGEST)
            if node.least > LONGEST:
                raise _refused(key, "minLength", f"more than {LONGEST} characters")
            inner = self.rules.repeated(self._character(), node.least, most)
            return self.rules.add(" ".join(['"\\""', inner, '"\\""']).replace("  ", " "), "string")
        machine = self._machine(node, key)
        return None if machine.empty else self._quoted(machine)

    def _quoted(self, machine: Automaton) -> str:
        if machine not in self._machines:
            inner = self.rules.automaton(machine, quoted('"'), True, "s")
            self._machines[machine] = self.rules.add(quoted('"') + " " + inner, "string")
        return self._machines[machine]

    def _character(self) -> str:
        return self.rules.choice((" ".join(way) for way in json_characters(ANY)), "char")

    def _machine(self, node: Strings, key: Key) -> Automaton:
        lengths = [node.most, *(n for n in SHORTER if node.most is None or n < node.most)]
        for most in lengths:
            if most is not None and most < node.least:
                continue
            try:
                return automaton(Strings(node.least, most, node.languages).language())
            except TooLarge:
                continue
        raise _refused(key, "pattern", "it needs too large a grammar")

    def name(self, language: Automaton) -> str:
        """A rule for a member's name, in quotes."""
        return self._quoted(language)


_ONE = Fraction(1)


def _refused(key: Key, keyword: str, why: str) -> InvalidSchema:
    """Names the schema that has the keyword, if it is one of these."""
    literals = sorted(key, key=lambda one: one.place.number)
    for literal in literals:
        schema = literal.place.schema
        if isinstance(schema, dict) and keyword in schema:
            return InvalidSchema(literal.place.pointer, keyword, why)
    pointer = literals[0].place.pointer if literals else "#"
    return InvalidSchema(pointer, keyword, why)
