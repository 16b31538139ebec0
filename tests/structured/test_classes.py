"""Classes as schemas: what the grammar accepts becomes an instance."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import random
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Literal, NotRequired, Optional, TypedDict

import pytest

from llama_bridge import InvalidInput
from llama_bridge.structured import Matcher, compile_schema

from .walks import accepts, walk


class Colour(enum.Enum):
    RED = "red"
    TWO = 2


@dataclass
class Point:
    x: int
    y: float = 0.5


@dataclass(frozen=True)
class Everything:
    text: Annotated[str, "some text"]
    number: float
    flag: bool
    nothing: None
    points: list[Point]
    pair: tuple[int, str]
    many: tuple[int, ...]
    by_name: dict[str, Point]
    choice: Literal["a", 1, None]
    colour: Colour
    maybe: Point | None
    other: Optional[int]  # noqa: UP045 - callers write both
    day: datetime.date
    moment: datetime.datetime
    clock: datetime.time
    key: uuid.UUID
    price: Decimal
    anything: Any
    tags: set[Literal["x", "y"]]
    later: list["Everything"] = field(default_factory=list)  # noqa: UP037 - and so


class Person(TypedDict):
    name: str
    born: NotRequired[datetime.date]
    knows: list[Person]


VALUE = {
    "text": "t",
    "number": 2,
    "flag": True,
    "nothing": None,
    "points": [{"x": 1}, {"x": 2, "y": 3.5}],
    "pair": [1, "a"],
    "many": [1, 2],
    "by_name": {"p": {"x": 0}},
    "choice": None,
    "colour": 2,
    "maybe": None,
    "other": 7,
    "day": "2024-02-29",
    "moment": "2024-02-29T12:00:00Z",
    "clock": "12:00:00Z",
    "key": "123e4567-e89b-12d3-a456-426614174000",
    "price": 19.99,
    "anything": {"a": [1]},
    "tags": ["y", "x"],
}


def test_a_dataclass_with_every_type() -> None:
    structured = compile_schema(Everything)
    text = json.dumps(VALUE)
    assert accepts(Matcher(structured.grammar), text)
    made = structured.parse(text)
    assert made == Everything(
        text="t",
        number=2.0,
        flag=True,
        nothing=None,
        points=[Point(1), Point(2, 3.5)],
        pair=(1, "a"),
        many=(1, 2),
        by_name={"p": Point(0)},
        choice=None,
        colour=Colour.TWO,
        maybe=None,
        other=7,
        day=datetime.date(2024, 2, 29),
        moment=datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC),
        clock=datetime.time(12, tzinfo=datetime.UTC),
        key=uuid.UUID("123e4567-e89b-12d3-a456-426614174000"),
        price=Decimal("19.99"),
        anything={"a": [1]},
        tags={"x", "y"},
    )
    assert isinstance(made.number, float)


@pytest.mark.parametrize("given", [Everything, Person, Point, list[Point], dict[str, Person]])
def test_every_text_of_the_grammar_becomes_a_value(given: Any) -> None:
    structured = compile_schema(given)
    start = Matcher(structured.grammar)
    rng = random.Random(1)
    for _ in range(40):
        assert structured.parse(walk(start, rng)) is not None


def test_a_typed_dict_that_contains_itself() -> None:
    structured = compile_schema(Person)
    start = Matcher(structured.grammar)
    text = '{"name": "A", "knows": [{"name": "B", "born": "1999-01-01", "knows": []}]}'
    assert accepts(start, text)
    assert structured.parse(text)["knows"][0]["born"] == datetime.date(1999, 1, 1)
    assert not accepts(start, '{"name": "A", "knows": [], "age": 3}')


def test_what_was_not_asked_for_cannot_come() -> None:
    start = Matcher(compile_schema(Point).grammar)
    assert accepts(start, '{"x": 1}')
    assert not accepts(start, '{"x": 1.5}')
    assert not accepts(start, '{"y": 1}')
    assert not accepts(start, '{"x": 1, "z": 1}')


@dataclass
class WithFunction:
    call: Callable[[], int]


@dataclass
class WithKeys:
    table: dict[int, str]


@dataclass
class WithBytes:
    inner: WithFunction
    data: bytes


@dataclass
class Unknown:
    what: Missing  # type: ignore[name-defined]  # noqa: F821


class Odd(enum.Enum):
    A = (1, 2)


@dataclass
class WithOdd:
    odd: list[Odd]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (WithFunction, "WithFunction.call has the type"),
        (WithKeys, "WithKeys.table has keys of"),
        (WithBytes, "WithFunction.call"),
        (WithOdd, r"WithOdd.odd\[\] has Odd.A"),
        (Unknown, "annotations of Unknown cannot be read"),
        (object, ""),
        (bytes, "bytes"),
        (type("Plain", (), {}), "Plain"),
        (Callable[[int], str], "Callable"),
    ],
)
def test_what_has_no_json_form_is_refused_by_name(given: Any, message: str) -> None:
    if given is object:
        compile_schema(given)  # any value
        return
    with pytest.raises(InvalidInput, match=message):
        compile_schema(given)


def test_a_pydantic_model() -> None:
    pydantic = pytest.importorskip("pydantic", reason="it has no wheel here")

    class City(pydantic.BaseModel):  # type: ignore[misc,name-defined,unused-ignore]
        name: str = pydantic.Field(min_length=1, max_length=20, pattern=r"^[A-Z]\w*$")
        people: int = pydantic.Field(ge=0, lt=10**8)
        height: float | None = None
        founded: datetime.date
        seen: datetime.datetime
        length: datetime.timedelta
        key: uuid.UUID
        price: Decimal
        kind: Literal["town", "city"] = "city"
        near: list[City] = pydantic.Field(default_factory=list)

    City.model_rebuild(_types_namespace={"City": City, **globals(), "Literal": Literal})
    structured = compile_schema(City)
    start = Matcher(structured.grammar)
    rng = random.Random(2)
    for _ in range(60):
        assert isinstance(structured.parse(walk(start, rng)), City)


def test_a_format_that_pydantic_checks_and_this_library_does_not() -> None:
    pydantic = pytest.importorskip("pydantic", reason="it has no wheel here")

    net = pydantic.create_model("Net", address=(pydantic.IPvAnyNetwork, ...))
    with pytest.raises(InvalidInput, match="#/properties/address, 'format'"):
        compile_schema(net)


def test_pydantic_is_not_imported_for_others() -> None:
    if sys.platform == "emscripten":
        pytest.skip("a page has no other process")
    code = (
        "import sys, dataclasses; from llama_bridge.structured import compile_schema\n"
        "compile_schema(dataclasses.make_dataclass('P', [('x', int)])); compile_schema({})\n"
        "assert 'pydantic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_field_with_a_default_may_be_left_out() -> None:
    made = compile_schema(Point).parse('{"x": 3}')
    assert dataclasses.asdict(made) == {"x": 3, "y": 0.5}


@dataclass
class Whole:
    x: int


@dataclass
class Real:
    x: float


@dataclass
class Word:
    x: str


class Dated(TypedDict):
    x: datetime.date
    y: int


class Named(TypedDict):
    x: str


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (Whole | Real, '{"x": 1.5}', Real(1.5)),
        (Word | Whole, '{"x": 5}', Whole(5)),
        (Real | Word, '{"x": "1.5"}', Word("1.5")),
        (list[int] | list[float], "[1.5]", [1.5]),
        (dict[str, int] | dict[str, float], '{"a": 1.5}', {"a": 1.5}),
        (Dated | Named, '{"x": "2020-01-01"}', {"x": "2020-01-01"}),
        (datetime.datetime | datetime.date, '"2020-01-01"', datetime.date(2020, 1, 1)),
        (datetime.date | str, '"20200101"', "20200101"),
        (uuid.UUID | str, f'"{"0" * 32}"', "0" * 32),
    ],
)
def test_of_a_union_it_is_the_class_that_the_answer_fits(
    kind: Any, text: str, expected: object
) -> None:
    assert Matcher(compile_schema(kind).grammar).accept(text)
    value = compile_schema(kind).parse(text)
    assert (type(value), value) == (type(expected), expected)


class Share(enum.Enum):
    ALL = 1.0
    HALF = 0.5
    HUGE = 1e20


def test_an_enum_may_have_whole_floats() -> None:
    compiled = compile_schema(Share)
    for text, expected in (("1", Share.ALL), ("0.5", Share.HALF), ("1e+20", Share.HUGE)):
        assert Matcher(compiled.grammar).accept(text)
        assert compiled.parse(text) is expected


@dataclass
class Begun:
    x: int
    start: InitVar[int]

    def __post_init__(self, start: int) -> None:
        self.x += start


def test_what_only_init_takes_is_a_field_too() -> None:
    compiled = compile_schema(Begun)
    assert Matcher(compiled.grammar).accept('{"x": 1, "start": 2}')
    assert compiled.parse('{"x": 1, "start": 2}').x == 3


@pytest.mark.parametrize("kind", [set[list[int]], frozenset[dict[str, int]], set[Whole]])
def test_a_set_of_what_cannot_be_in_one_is_refused_before_any_work(kind: Any) -> None:
    with pytest.raises(InvalidInput, match="cannot be in a set"):
        compile_schema(kind)
