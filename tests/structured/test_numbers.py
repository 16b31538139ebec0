"""Numbers between bounds: exactly these, as text and as float."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_bridge import InvalidInput
from llama_bridge.structured import Matcher, to_gbnf

from .walks import accepts

BOUNDS = st.integers(-1500, 1500) | st.sampled_from(
    [0.1, 0.5, -0.25, 3.75, 99.99, 1e-7, -2.5e-3, 123456.789, 1e12, 0.30000000000000004]
)


def matcher(**schema: object) -> Matcher | None:
    try:
        return Matcher(to_gbnf(schema))
    except InvalidInput:
        return None


@settings(deadline=None, max_examples=60)
@given(
    st.integers(-300, 300) | st.none(),
    st.integers(-300, 3000) | st.none(),
    st.sampled_from([None, 1, 2, 3, 7, 10, 25]),
    st.booleans(),
)
def test_integers_are_exactly_those_within_the_bounds(
    low: int | None, high: int | None, multiple: int | None, strict: bool
) -> None:
    schema: dict[str, object] = {"type": "integer"}
    if low is not None:
        schema["exclusiveMinimum" if strict else "minimum"] = low
    if high is not None:
        schema["maximum"] = high
    if multiple is not None:
        schema["multipleOf"] = multiple
    start = matcher(**schema)
    for number in [*range(-320, 320), 999, 1000, 2999, 3000, 3001, -12345, 10**14]:
        valid = (
            (low is None or number > low or (number == low and not strict))
            and (high is None or number <= high)
            and (multiple is None or number % multiple == 0)
        )
        assert (start is not None and accepts(start, str(number))) == valid, number


@settings(deadline=None, max_examples=60)
@given(BOUNDS, BOUNDS, st.booleans(), st.floats(-2000, 2000).map(lambda x: round(x, 4)))
def test_numbers_are_within_the_bounds(
    low: float, high: float, strict: bool, number: float
) -> None:
    keys = ("exclusiveMinimum", "exclusiveMaximum") if strict else ("minimum", "maximum")
    start = matcher(type="number", **{keys[0]: low, keys[1]: high})
    exact = {
        name: Fraction(repr(value)) for name, value in (("n", number), ("l", low), ("h", high))
    }
    inside = exact["l"] < exact["n"] < exact["h"] or (
        not strict and exact["l"] <= exact["n"] <= exact["h"]
    )
    text = f"{number:.4f}".rstrip("0").rstrip(".")
    if text == "-0":
        return
    decimals = len(text.partition(".")[2])
    if start is not None and accepts(start, text):
        assert inside
    elif inside and decimals <= 2:
        pytest.fail(f"{text} is not accepted between {low} and {high}")


@pytest.mark.parametrize(
    ("schema", "accepted", "refused"),
    [
        ({"type": "number"}, ["0", "-1.5", "1e5", "2.50E-3"], ["01", "+1", ".5", "1.", "-", "1e"]),
        ({"type": "integer"}, ["0", "-17", "999999999999999"], ["1.0", "-0", "007", "1e3"]),
        ({"multipleOf": 0.01}, ["19.99", "0.07", "-3", "1.5"], ["0.001", "19.999"]),
        ({"multipleOf": 2.5}, ["0", "2.5", "-7.5", "10"], ["2", "1.25"]),
        ({"minimum": 0, "maximum": 1}, ["0", "1", "0.5", "1.0"], ["1.01", "-0.1", "2"]),
        ({"exclusiveMinimum": 0, "exclusiveMaximum": 1}, ["0.5"], ["0", "1", "0.0", "1.0"]),
        (
            {"exclusiveMinimum": 0.1, "maximum": 0.2},
            ["0.2", "0.11"],
            ["0.1", "0.10000000000000001"],
        ),
        ({"minimum": 1e20, "type": "integer"}, ["100000000000000000000"], ["99999999999999999999"]),
        ({"type": "integer", "not": {"multipleOf": 2}}, ["1", "-3"], ["0", "2"]),
        ({"type": "number", "not": {"type": "integer"}}, ["0.5", "1.25"], ["1", "1.0", "0"]),
        ({"type": "integer", "minimum": 1, "maximum": 5, "not": {"const": 3}}, ["2", "5"], ["3"]),
        ({"minimum": 1e-20, "maximum": 2e-20}, ["0.00000000000000000001"], ["0", "1"]),
        ({"minimum": 5, "exclusiveMinimum": True, "type": "integer"}, ["6"], ["5"]),
    ],
)
def test_examples(schema: dict[str, object], accepted: list[str], refused: list[str]) -> None:
    start = Matcher(to_gbnf(schema))
    assert [text for text in accepted if not accepts(start, text)] == []
    assert [text for text in refused if accepts(start, text)] == []


def test_no_float_leaves_the_bounds_by_rounding() -> None:
    start = Matcher(to_gbnf({"type": "number", "exclusiveMinimum": 0.1, "exclusiveMaximum": 0.3}))
    for text in ("0.1000000000000001", "0.10000000000000001", "0.2999999999999999999"):
        if accepts(start, text):
            assert 0.1 < json.loads(text) < 0.3
    assert accepts(start, "0.2")


def test_a_period_that_is_too_long_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="multipleOf"):
        to_gbnf({"type": "integer", "multipleOf": 7919 * 7927})


@pytest.mark.parametrize("step", [1000, 1024, 365, 86400, 30, 7])
def test_multiples_with_a_long_period(step: int) -> None:
    start = Matcher(to_gbnf({"type": "integer", "multipleOf": step}))
    for number in (0, step, 2 * step, -3 * step, 4 * step):
        assert accepts(start, str(number)), number
        assert not accepts(start, str(number + 1)), number + 1
        assert not accepts(start, str(number + step // 2)), number + step // 2


@pytest.mark.parametrize("step", [10, 3, 0.5, 2.5, 0.25])
def test_what_is_no_multiple(step: float) -> None:
    start = Matcher(to_gbnf({"type": "number", "not": {"multipleOf": step}}))
    for hundredths in range(-1200, 1200):
        text = f"{hundredths / 100:.2f}".rstrip("0").rstrip(".")
        multiple = Fraction(hundredths, 100) % Fraction(str(step)) == 0
        assert accepts(start, text) is not multiple or text == "-0", text
