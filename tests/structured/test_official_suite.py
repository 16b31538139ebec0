"""The official test suite: what a grammar accepts is valid, and few schemas are refused."""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from decimal import Decimal, getcontext
from functools import cache

import pytest

from llama_bridge import InvalidInput
from llama_bridge.structured import Matcher, to_gbnf

if sys.platform == "emscripten":
    pytest.skip("a page fetches no source distribution", allow_module_level=True)

import jsonschema  # type: ignore[import-untyped]

from .native_judge import native_judge
from .official import Group, groups
from .walks import accepts, walk

PARTS = ("", "optional", "optional/format")
DRAFTS = {
    "draft2020-12": jsonschema.Draft202012Validator,
    "draft2019-09": jsonschema.Draft201909Validator,
    "draft7": jsonschema.Draft7Validator,
}
DIALECTS = {"draft7": "http://json-schema.org/draft-07/schema#"}
ASSERTED_ELSEWHERE = {"content.json"}
"""``contentEncoding`` and ``contentMediaType`` are annotations here, as since draft 2019-09."""


def matcher(group: Group, draft: str) -> Matcher | None:
    """The grammar of a group's schema, or None if it is refused."""
    schema = group.schema
    if isinstance(schema, dict) and draft in DIALECTS:
        schema = {"$schema": DIALECTS[draft], **schema}
    return compiled(json.dumps(schema))


@cache
def compiled(schema: str) -> Matcher | None:
    """The same, once for all tests: most schemas are in all drafts."""
    try:
        return Matcher(to_gbnf(schema))
    except InvalidInput:
        return None


def text_of(value: object) -> str:
    """The one spelling that the grammars have."""
    return json.dumps(value, ensure_ascii=False)


OLDER = [
    pytest.param(draft, marks=pytest.mark.slow) for draft in ("draft2019-09", "draft6", "draft4")
]


@pytest.mark.parametrize("draft", ["draft2020-12", "draft7", *OLDER])
def test_no_invalid_value_is_accepted(draft: str) -> None:
    wrong: list[tuple[str, str, object]] = []
    counts: Counter[bool] = Counter()
    for part in PARTS:
        for group in groups(draft, part):
            if group.file in ASSERTED_ELSEWHERE or (start := matcher(group, draft)) is None:
                continue
            for value, valid in group.tests:
                accepted = accepts(start, text_of(value))
                counts[accepted] += 1
                # Up to draft 6 schemas say no dialect here, and siblings of $ref count.
                if accepted and not valid and "sibling $id" not in group.description:
                    wrong.append((group.file, group.description, value))
    assert wrong == []
    assert counts[True] > 250, "it refuses nearly everything"


@pytest.mark.parametrize(
    ("part", "bound"), [("", 0.12), ("optional", 0.02), ("optional/format", 0)]
)
def test_few_schemas_are_refused(part: str, bound: float) -> None:
    asked = list(groups("draft2020-12", part))
    refused = [group for group in asked if matcher(group, "draft2020-12") is None]
    missed = [group for group in refused if not group.aside]
    counted = len(asked) - (len(refused) - len(missed))
    assert len(missed) <= bound * counted, [(g.file, g.description) for g in missed]


@pytest.mark.parametrize(
    "draft", ["draft2020-12", *OLDER[:1], pytest.param("draft7", marks=pytest.mark.slow)]
)
def test_texts_of_the_grammars_are_valid(draft: str) -> None:
    getcontext().prec = 400  # numbers are judged as they are written
    rng = random.Random(7)
    wrong: list[tuple[str, str, str]] = []
    for part in PARTS:
        for group in groups(draft, part):
            if group.file == "ecmascript-regex.json" or (start := matcher(group, draft)) is None:
                continue  # patterns that Python's re cannot read
            schema = json.loads(json.dumps(group.schema), parse_float=Decimal)
            kind = DRAFTS[draft]
            judge = kind(schema, format_checker=kind.FORMAT_CHECKER)
            for _ in range(4):
                text = walk(start, rng)
                if not judge.is_valid(json.loads(text, parse_float=Decimal)):
                    wrong.append((group.file, group.description, text))
    assert wrong == []


@pytest.mark.usefixtures("native_backend")
def test_llama_cpp_reads_the_grammars_in_the_same_way() -> None:
    with native_judge() as judge:
        for number, group in enumerate(groups("draft2020-12")):
            start = matcher(group, "draft2020-12")
            texts = [text_of(value) for value, _ in group.tests]
            if start is None or number % 5 or any("\ud800" <= c <= "\udfff" for c in str(texts)):
                continue
            theirs = judge.ask(to_gbnf(group.schema), texts)
            assert theirs == [accepts(start, text) for text in texts], group


def test_llguidance_accepts_what_the_grammars_accept() -> None:
    llguidance = pytest.importorskip("llguidance", reason="it has no wheel for this machine")
    tokenizer = llguidance.LLTokenizer("byte")
    rng = random.Random(3)
    judged = 0
    for group in groups("draft2020-12"):
        if (start := matcher(group, "draft2020-12")) is None:
            continue
        theirs = llguidance.LLMatcher(
            tokenizer, llguidance.LLMatcher.grammar_from_json_schema(json.dumps(group.schema))
        )
        if theirs.is_error():
            continue  # it refuses the schema
        text = walk(start, rng)
        tokens = tokenizer.tokenize_str(text)
        assert theirs.try_consume_tokens(tokens) == len(tokens), (group, text)
        assert theirs.is_accepting(), (group, text)
        judged += 1
    assert judged > 100
