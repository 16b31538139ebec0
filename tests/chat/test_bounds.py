"""Templates that nobody vouches for: an error within a second or so of computing, and not much memory."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from llama_bridge import LlamaBridge, Message, TemplateError
from llama_bridge.chat.template import ChatTemplate

HELLO = [Message(role="user", content="hi")]
GROWS = "{% set ns = namespace(s=START) %}{% for i in range(60) %}{% set ns.s = NEXT %}{% endfor %}"


def grows(start: str, following: str, then: str = "") -> str:
    return GROWS.replace("START", start).replace("NEXT", following) + then


def render(source: str) -> str:
    return ChatTemplate(source).render(HELLO)


LONG = "{% set n = namespace(a='a') %}{% for i in range(20) %}{% set n.a = n.a + n.a %}{% endfor %}"
"""n.a is then a million letters."""
HUGE = {
    "doubled": grows("'aaaaaaaa'", "ns.s ~ ns.s"),
    "doubled by plus": grows("'aaaaaaaa'", "ns.s + ns.s"),
    "a list doubled": grows("[1]", "ns.s + ns.s"),
    "a list in itself": grows("[1]", "[ns.s, ns.s]", "{{ ns.s }}"),
    "pairs in pairs": grows("1", "(ns.s, ns.s)", "{{ ns.s }}"),
    "fifty million": "{{ 'x' * 50000000 }}{{ 'x' * 3000000000 }}",
    "slices kept": LONG
    + "{% set n.l = none %}{% for i in range(20000) %}{% set n.l = (n.a[1:], n.l) %}{% endfor %}",
    "indent": LONG + "{{ (n.a | replace('a', 'a\n')) | indent(100000) | length }}",
    "replace": LONG + "{{ n.a | replace('a', n.a) | length }}",
    "replace, method": LONG + "{{ n.a.replace('a', n.a) | length }}",
    "replace nothing": LONG + "{{ n.a.replace('', n.a) | length }}",
    "join": LONG + "{{ range(100000) | join(n.a) | length }}",
    "tojson": "{{ {'a': [1]} | tojson(indent=2000000000) }}",
    "range": "{{ range(2000000000) | list | length }}",
    "output": "{% for i in range(99999) %}{% for j in range(99999) %}a{% endfor %}{% endfor %}",
    "its own text": "{% for i in range(99999) %}" + "x" * 9999 + "{% endfor %}",
    "one text, often": LONG + "{{ n.a }}" * 500,
    "chained": LONG + "{{ " + " ~ ".join(["n.a"] * 500) + " }}",
}
ENDLESS = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% for k in range(99999) %}{% endfor %}{% endfor %}{% endfor %}",
    "loops without a body": "{% for i in range(99999) %}{% for j in range(99999) if false %}x{% endfor %}{% endfor %}",
    "sorting": "{% for i in range(99999) %}{% set x = range(99999) | sort %}{% endfor %}",
    "recursion": "{% macro a(n) %}{{ a(n + 1) }}{% endmacro %}{{ a(0) }}",
    "tests": "{% set r = range(0, 99999) | list %}{% for i in r %}{% if i + 100000 in r %}x{% endif %}{% endfor %}",
    "searching": "{% for i in range(99999) %}{% if 5 in range(99999) | list %}{% endif %}{% endfor %}",
}
BROKEN = {
    "nothing": "{% for %}",
    "deep brackets": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "deep lists": "{{ " + "[" * 20000 + "]" * 20000 + " }}",
    "many signs": "{{ " + "-" * 50000 + "1 }}",
    "deep blocks": "{% if 1 %}" * 3000 + "x" + "{% endif %}" * 3000,
    "too long": "x" * 1_000_000,
    "half a character": "{{ '\ud800' }}x",
    "the file system": "{% include '/etc/passwd' %}",
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "changing a message": "{{ messages[0].update({'content': 'z'}) }}",
    "an error of megabytes": LONG + "{{ raise_exception(n.a) }}",
}


computing = getattr(time, "thread_time", time.monotonic)
"""Seconds that this thread computed; a page tells only the time that went by."""


def resident() -> int:
    """Bytes of memory that this process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("source", HUGE.values(), ids=HUGE.keys())
def test_nothing_huge_is_built(source: str) -> None:
    start = computing()
    before = resident() if sys.platform == "linux" else 0
    with pytest.raises(TemplateError, match=r"more time or memory.*choose another model") as caught:
        render(source)
    assert len(str(caught.value)) < 2000
    assert computing() - start < 1.5
    if sys.platform == "linux":
        assert resident() - before < 300 << 20


@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS.keys())
def test_nothing_goes_on_for_ever(source: str) -> None:
    start = computing()
    with pytest.raises(TemplateError, match=r"more time or memory.*choose another model"):
        render(source)
    assert computing() - start < 1.5


@pytest.mark.parametrize("source", BROKEN.values(), ids=BROKEN.keys())
def test_whatever_is_wrong_is_a_typed_error(source: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(source)
    assert len(str(caught.value)) < 2000


def test_a_template_that_changes_messages_changes_its_own() -> None:
    template = ChatTemplate("{{ messages.append(1) }}{{ messages | length }}")
    for _ in range(2):
        assert template.render(HELLO).endswith("2")


def test_after_an_error_the_template_renders_again() -> None:
    source = "{% if messages[0].content == 'loop' %}" + ENDLESS["loops"] + "{% endif %}"
    source += "{% if messages[0].content == 'no' %}{{ raise_exception('never') }}{% endif %}ok"
    template = ChatTemplate(source)
    for said in ("loop", "hi", "no", "hi", "loop", "no", "hi"):
        if said == "hi":
            assert template.render(HELLO) == "ok"
        else:
            with pytest.raises(TemplateError):
                template.render([Message(role="user", content=said)])


def test_long_conversations_are_no_attack() -> None:
    source = "{% for m in messages %}{{ m.role ~ ': ' ~ m.content | trim + '\n' }}{% endfor %}"
    messages = [Message(role="user", content="word " * 2000) for _ in range(1000)]
    assert len(ChatTemplate(source).render(messages)) > 9_000_000


def test_several_threads_render_at_once() -> None:
    good = ChatTemplate("{% for m in messages %}{{ m.content }},{% endfor %}")
    bad = ChatTemplate(ENDLESS["loops"])
    wrong: list[object] = []

    def one(number: int) -> None:
        for i in range(20):
            said = f"{number}-{i}"
            if good.render([Message(role="user", content=said)]) != f"{said},":
                wrong.append(said)

    def other() -> None:
        try:
            bad.render(HELLO)
            wrong.append("no error")
        except TemplateError:
            pass

    threads = [threading.Thread(target=one, args=(i,)) for i in range(6)]
    threads += [threading.Thread(target=other) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.skipif(sys.platform == "emscripten", reason="a page has no processes")
def test_a_fork_renders_with_an_instance_of_its_own() -> None:
    template = ChatTemplate("{{ messages[0].content }}!")
    assert template.render(HELLO) == "hi!"
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            template.render(HELLO)

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for _ in range(3):
            child = os.fork()
            if child == 0:
                signal.alarm(60)
                fine = template.render(HELLO) == "hi!" == ChatTemplate("hi!").render(HELLO)
                try:
                    ChatTemplate(ENDLESS["loops"]).render(HELLO)
                except TemplateError:
                    os._exit(0 if fine else 1)
                os._exit(2)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        thread.join()
    assert template.render(HELLO) == "hi!"


@pytest.fixture
def alarms() -> Iterator[None]:
    """An alarm interrupts as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    yield
    signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(sys.platform in ("emscripten", "win32"), reason="it has no such signals")
def test_an_interrupt_leaves_a_template_that_renders(alarms: None) -> None:
    template = ChatTemplate(
        "{% for i in range(300) %}{% set x = i + 1 %}{% endfor %}{{ messages[0].content }}"
    )
    assert template.render(HELLO) == "hi"
    interrupted = 0
    for delay in (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016) * 3:
        try:
            signal.setitimer(signal.ITIMER_REAL, delay)
            try:
                template.render(HELLO)
                time.sleep(delay)
            finally:  # it may come here too, if another thread got the signal
                signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            interrupted += 1
        assert template.render(HELLO) == "hi"
    assert interrupted


def test_a_hostile_template_costs_only_its_own_model(llama: LlamaBridge) -> None:
    with pytest.raises(TemplateError):
        render(ENDLESS["loops"])
    assert llama.apply_chat_template(HELLO)
