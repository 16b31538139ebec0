"""Templates that nobody vouches for: an error within a second or so, and not much memory."""

from __future__ import annotations

import sys
import time
import tracemalloc

import pytest

from llama_bridge import Message, TemplateError
from llama_bridge.chat import sandbox
from llama_bridge.chat.template import ChatTemplate

HELLO = [Message(role="user", content="hi")]


def render(source: str) -> str:
    return ChatTemplate(source).render(HELLO)


HUGE = {
    "multiplied": "{{ ('a' * 10**10) | length }}",
    "multiplied from the right": "{{ (10**10 * 'a') | length }}",
    "a list multiplied": "{{ ([0] * 10**10) | length }}",
    "fifty million": "{{ 'x' * 50000000 }}",
    "doubled": "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "doubled by plus": "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "a list in itself": "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
    "pairs in pairs": "{% set ns = namespace(s=1) %}{% for i in range(60) %}{% set ns.s = (ns.s, ns.s) %}{% endfor %}{{ ns.s }}",
    "a dict in itself": "{% set ns = namespace(s=1) %}{% for i in range(60) %}{% set ns.s = {1: ns.s, 2: ns.s} %}{% endfor %}{{ ns.s }}",
    "lists compared": (
        "{% set a = namespace(s=[1]) %}{% set b = namespace(s=[1]) %}{% for i in range(60) %}"
        "{% set a.s = [a.s, a.s] %}{% set b.s = [b.s, b.s] %}{% endfor %}{{ a.s == b.s }}"
    ),
    "format, braces": "{{ '{:>2000000000}'.format('x') | length }}",
    "format, nested": "{{ '{:>{}}'.format('x', 2000000000) | length }}",
    "format, percent": "{{ ('%2000000000s' % 'x') | length }}",
    "format, percent and star": "{{ ('%*s' % (2000000000, 'x')) | length }}",
    "format, filter": "{{ '%2000000000s' | format('x') | length }}",
    "format, mapped": "{{ ['%2000000000s'] | map('format', 'x') | list }}",
    "format, taken apart": "{% set f = '{:>2000000000}'.format %}{{ f('x') | length }}",
    "format_map": "{{ '{a:>2000000000}'.format_map({'a': 1}) | length }}",
    "format, many fields": "{{ ('{0:9999}' * 4000).format('x') | length }}",
    "format, many fields of percent": "{{ ('%(a)9999s' * 4000) % {'a': 'x'} }}",
    "slices kept": "{% set a = 'a' * 1000000 %}{% set n = namespace(l=none) %}{% for i in range(20000) %}{% set n.l = (a[1:], n.l) %}{% endfor %}",
    "namespaces in namespaces": "{% set n = namespace(x=1) %}{% for i in range(40) %}{% set n.x = namespace(a=n.x, b=n.x) %}{% endfor %}{{ n.x }}",
    "a naive search": "{% set a = ('a' * 1000) * 900 %}{{ a.rfind('ab' ~ 'a' * 450000) }}",
    "equal hashes": "{{ range(0, 2305843009213693951 * 99999, 2305843009213693951) | unique | list | length }}",
    "center, filter": "{{ 'x' | center(2000000000) | length }}",
    "center, method": "{{ 'x'.center(2000000000) | length }}",
    "ljust": "{{ 'x'.ljust(2000000000) | length }}",
    "zfill": "{{ '1'.zfill(2000000000) | length }}",
    "expandtabs": "{{ '\t'.expandtabs(2000000000) | length }}",
    "translate": "{{ ('a' * 1000000).translate({97: 'b' * 100000}) | length }}",
    "encode": "{{ 'x'.encode('utf-32') }}",
    "to_bytes": "{{ (1).to_bytes(2000000000, 'big') }}",
    "indent": "{{ ('a\n' * 100000) | indent(100000) | length }}",
    "indent, text": "{{ ('a\n' * 100000) | indent('b' * 100000) | length }}",
    "replace, filter": "{{ ('a' * 1000000) | replace('a', 'b' * 1000000) | length }}",
    "replace, method": "{{ ('a' * 1000000).replace('a', 'b' * 1000000) | length }}",
    "replace nothing": "{{ ('a' * 1000000).replace('', 'b' * 1000000) | length }}",
    "join, filter": "{{ range(100000) | join('b' * 1000000) | length }}",
    "join, method": "{{ ('b' * 1000000).join('a' * 1000000) | length }}",
    "join, attribute": "{{ messages | join('b' * 3000000, attribute='content') }}{{ (messages * 9) | join('b' * 3000000) }}",
    "tojson": "{{ {'a': [1]} | tojson(indent=2000000000) }}",
    "batch": "{{ [1] | batch(2000000000, 'x') | list | length }}",
    "slice": "{{ [1] | slice(1000000000) | list | length }}",
    "a power": "{{ 9 ** (9 ** 9) }}",
    "a long number": "{{ (10 ** 10 ** 8) | length }}",
    "range": "{{ range(10 ** 12) | list | length }}",
    "output": "{% for i in range(99999) %}{% for j in range(99999) %}a{% endfor %}{% endfor %}",
    "its own text": "{% for i in range(99999) %}" + "x" * 9999 + "{% endfor %}",
    "its own text, kept": "{% set x %}{% for i in range(99999) %}"
    + "x" * 9999
    + "{% endfor %}{% endset %}",
    "its own text, in a macro": "{% macro m() %}"
    + "x" * 9999
    + "{% endmacro %}{% for i in range(99999) %}{{ m() }}{% endfor %}",
    "one text, often": "{% set x = 'a' * 1000000 %}" + "{{ x }}" * 500,
    "chained": "{% set x = 'a' * 1000000 %}{{ " + " ~ ".join(["x"] * 500) + " }}",
}
ENDLESS = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% for k in range(99999) %}{% endfor %}{% endfor %}{% endfor %}",
    "loops without a body": "{% for i in range(99999) %}{% for j in range(99999) if false %}x{% endfor %}{% endfor %}",
    "sorting": "{% for i in range(99999) %}{% set x = range(99999) | sort %}{% endfor %}",
    "recursion": "{% macro a(n) %}{{ a(n + 1) }}{% endmacro %}{{ a(0) }}",
    "a recursive loop": "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "tests": "{% set r = range(0, 99999) %}{{ r | select('in', r | reverse | list) | list | length }}",
    "searching": "{% for i in range(99999) %}{% if 5 in range(99999) | list %}{% endif %}{% endfor %}",
}
BROKEN = {
    "nothing": "{% for %}",
    "deep brackets": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "deep lists": "{{ " + "[" * 20000 + "]" * 20000 + " }}",
    "many signs": "{{ " + "-" * 50000 + "1 }}",
    "deep blocks": "{% if 1 %}" * 3000 + "x" + "{% endif %}" * 3000,
    "too long": "x" * 1_000_000,
    "lone surrogate": "{{ '\\ud800' }}x",
    "the file system": "{% include '/etc/passwd' %}",
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "changing messages": "{{ messages.append(1) }}",
    "changing a message": "{{ messages[0].update({'content': 'z'}) }}",
    "divided by zero": "{{ 1 / 0 }}",
    "an error of megabytes": "{{ raise_exception('x' * 1000000) }}",
}


@pytest.mark.skipif(sys.platform == "emscripten", reason="it is the same Python, and slower there")
@pytest.mark.parametrize("source", HUGE.values(), ids=HUGE.keys())
def test_nothing_huge_is_built(source: str) -> None:
    tracemalloc.start()
    try:
        start = time.monotonic()
        with pytest.raises(TemplateError) as caught:
            render(source)
        assert len(str(caught.value)) < 2000
        assert time.monotonic() - start < sandbox.SECONDS + 5
        _, peak = tracemalloc.get_traced_memory()
        assert peak < 200 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS.keys())
def test_nothing_goes_on_for_ever(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "SECONDS", 0.3)
    start = time.monotonic()
    with pytest.raises(TemplateError):
        render(source)
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("source", BROKEN.values(), ids=BROKEN.keys())
def test_whatever_is_wrong_is_a_typed_error(source: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(source)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception.__globals__ }}",
        "{{ '{0.__globals__}'.format(raise_exception) }}",
        "{{ messages.__class__ }}",
        "{{ messages | attr('__class__') }}",
    ],
)
def test_nothing_of_python_comes_out(source: str) -> None:
    assert render(source) == ""


def test_what_templates_do_still_works() -> None:
    source = (
        "{%- set ns = namespace(n=0) -%}{%- for m in messages -%}{%- set ns.n = ns.n + 1 -%}"
        "{{ loop.index ~ '/' ~ loop.length }}|{{ m['role'].upper() }}|{{ m.content | trim | replace('i', 'o') }}|"
        "{{ '%03d' % ns.n }}|{{ '{:>4}'.format('x') }}|{{ ['a', 'b'] | join(', ') }}|{{ m | tojson }}|"
        "{{ 'x'.center(3) }}|{{ m.content.split('h')[-1] }}|{{ {'a': 1}.items() | list }}|{{ (1, 2)[0] }}|"
        "{{ m.get('tool_calls') is none }}|{{ ([m] + [m]) | length }}|{{ 2 ** 10 }}|{{ 'ab' * 2 }}"
        "{%- endfor -%}{%- macro f(x) -%}[{{ x }}]{%- endmacro -%}{{ f('y') }}"
        "{%- for a, b in [(1, 2)] -%}{{ a }}{{ b }}{%- endfor -%}"
    )
    expected = (
        "1/1|USER|ho|001|   x|a, b|"
        + '{"role": "user", "content": "hi"}'
        + "| x |i|[('a', 1)]|1|True|2|1024|abab"
        "[y]12"
    )
    assert render(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ '**%s**: %s' | format('a', 'b') }}", "**a**: b"),
        ("{{ '* {}'.format('a') }}{{ '*%s*' % 'a' }}", "* a*a*"),
        ("{{ '{{\"name\": \"{}\"}}'.format('a') }}", '{"name": "a"}'),
        (
            "{{ 'Cutoff 202312 {}'.format('a') }}{{ 'ID10000: %s' % 'a' }}",
            "Cutoff 202312 aID10000: a",
        ),
        ("{{ '%5.1f%%' % 3 }}{{ '{:>5}|{!r}'.format('a', 'b') }}", "  3.0%    a|'b'"),
    ],
)
def test_formats_of_ordinary_texts(source: str, expected: str) -> None:
    assert render(source) == expected


def test_long_conversations_are_no_attack() -> None:
    source = "{% for m in messages %}{{ m.role ~ ': ' ~ m.content | trim + '\n' }}{% endfor %}"
    messages = [Message(role="user", content="word " * 2000) for _ in range(1000)]
    start = time.monotonic()
    assert len(ChatTemplate(source).render(messages)) > 9_000_000
    assert time.monotonic() - start < 3
