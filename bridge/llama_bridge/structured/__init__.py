"""Structured output: JSON Schema to a grammar that never allows what the schema forbids.

A schema becomes a union of sets of values, one JSON type each, from which the grammar is written. Whatever is accepted
validates; some of what validates is not accepted. Read in this order:

.. code-block:: text

    schema.py      to_gbnf and compile_schema: what callers give and get
    classes.py     pydantic models, dataclasses and TypedDicts as schemas
    document.py    a schema as a document: places, references, what each keyword is given
    nodes.py       sets of values of one type
    effects.py     what demands are made of
    demands.py     what each keyword demands
    opposites.py   what its opposite demands
    keywords.py    both together
    meaning.py     a schema as a union of sets
    evaluate.py    whether one value satisfies a schema
    plan.py        which members and items are written; which schemas contain themselves
    emit.py        writes values, strings, numbers
    objects.py     writes objects
    arrays.py      writes arrays
    numbers.py     numbers between bounds and multiples, as automata of digits
    formats.py     formats of strings
    regex.py       ECMA-262 regular expressions as languages
    language.py    regular languages and their automata
    charset.py     sets of characters
    rules.py       writes GBNF
    gbnf.py        reads GBNF, and refuses what would end llama.cpp
    matcher.py     follows a text through a grammar

May import the ground floor only: checks, errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .gbnf import check_grammar
from .matcher import Matcher

if TYPE_CHECKING:
    from .schema import Structured, compile_schema, to_gbnf

__all__ = ["Matcher", "Structured", "check_grammar", "compile_schema", "to_gbnf"]


def __getattr__(name: str) -> object:
    # Whoever loads a model needs the Matcher. Schemas take 50 ms more to import: they come with the first one.
    if name in ("Structured", "compile_schema", "to_gbnf"):
        from . import schema

        return getattr(schema, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
