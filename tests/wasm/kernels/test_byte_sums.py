"""Products of bytes, added up in pairs or in fours: the same bits, and the faster form is taken."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from llama_bridge import BackendUnavailable, LlamaBridge
from llama_bridge_wasm.abi import Guest
from llama_bridge_wasm.engine import byte_sums
from llama_bridge_wasm.engine.byte_sums import ENVIRONMENT, FORMS, ByteSums
from tests.pace import idle_seconds

from ..conftest import MakeGuest
from .kernel_check import FORMATS, Format, multiply, random_weights
from .test_products import activations


@pytest.fixture(autouse=True)
def _as_at_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setattr(byte_sums, "_measured", None)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 9, 70])
@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_both_forms_give_the_same_bits(guest: Guest, format: Format, n: int) -> None:
    raw, x = random_weights(format, 16, 1024), activations(n, 1024)
    x[0, 5], x[-1, 300] = np.inf, np.nan
    found = []
    for form in range(len(FORMS)):
        guest.call("lb_byte_sums", form)
        found.append(multiply(guest, format, raw, x).values)
    guest.call("lb_byte_sums", 0)
    numbers = ~np.isnan(found[0])
    assert (np.isnan(found[1]) == ~numbers).all()
    pairs, fours = (one[numbers].view(np.uint32) for one in found)
    np.testing.assert_array_equal(pairs, fours)


def test_a_form_that_does_not_exist_changes_nothing(guest: Guest) -> None:
    assert guest.call("lb_byte_sums", 1) == 1
    for wrong in (-1, 2, 1 << 20):
        assert guest.call("lb_byte_sums", wrong) == 1
    assert guest.call("lb_byte_sums", 0) == 0


class Slow:
    """A guest whose products take longer in one of the forms, by a clock that moves with them."""

    def __init__(self, guest: Guest, seconds: Callable[[int], float]) -> None:
        self._guest, self._seconds = guest, seconds
        self.now = 0.0
        self.form = self.checks = 0
        self.write = guest.write
        self.has_final_code = True
        self.kept: dict[str, str] = {}

    def recall(self, name: str) -> str:
        return self.kept.get(name, "")

    def keep(self, name: str, word: str) -> None:
        self.kept[name] = word

    def call(self, name: str, *args: int) -> int:
        found = self._guest.call(name, *args)
        if name == "lb_byte_sums":
            self.form = found
        elif name == "lb_check":
            self.checks += 1
            self.now += self._seconds(self.form)
        return found


def of(slow: Slow) -> ByteSums:
    return ByteSums(cast(Guest, slow))


@pytest.mark.parametrize(
    ("pairs", "fours", "taken"),
    [(1.0, 0.5, "fours"), (0.5, 1.0, "pairs"), (1.0, 0.98, "pairs"), (1.0, 0.9, "fours")],
)
def test_the_form_that_is_clearly_faster_is_taken_also_on_a_noisy_machine(
    guest: Guest, monkeypatch: pytest.MonkeyPatch, pairs: float, fours: float, taken: str
) -> None:
    noise = iter([9, 1, 1, 7, 3, 1, 1, 1, 5, 9, 2, 1] * 2)
    slow = Slow(guest, lambda form: (pairs, fours)[form] * next(noise))
    monkeypatch.setattr(time, "perf_counter", lambda: slow.now)
    monkeypatch.setattr(time, "thread_time", lambda: 0.0)
    assert of(slow).form == taken
    tried = slow.checks
    assert of(slow).form == taken
    assert slow.checks == tried > 2, "measured once in a process"
    guest.call("lb_byte_sums", 0)


def test_one_lucky_turn_does_not_decide(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = iter([1.0, 1.2, 1.0, 0.7, 1.0, 1.2, 1.0, 1.2] * 2)
    slow = Slow(guest, lambda form: next(turns))
    monkeypatch.setattr(time, "perf_counter", lambda: slow.now)
    monkeypatch.setattr(time, "thread_time", lambda: 0.0)
    assert of(slow).form == "pairs"
    guest.call("lb_byte_sums", 0)


def test_where_code_gets_better_while_it_runs_the_last_of_three_measurements_counts(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    quality = iter([(1.0, 9.0), (3.0, 1.0), (1.0, 0.8)])
    slow = Slow(guest, lambda form: now[form])
    slow.has_final_code = False
    for clock in ("perf_counter", "thread_time", "monotonic"):
        monkeypatch.setattr(time, clock, lambda: slow.now)
    sums = of(slow)
    assert (sums.form, slow.checks) == ("pairs", 0), "nothing is timed at a load"
    for last in (False, False, True):
        now = next(quality)
        before = slow.checks
        assert sums.try_again() is last
        assert slow.checks > before
        assert sums.form == ("fours" if last else "pairs")
        before = slow.checks
        assert sums.try_again() is False
        assert slow.checks == before, "a while is to pass"
        slow.now += 1
    assert sums.try_again() is False
    assert slow.checks == before
    again = Slow(guest, lambda form: 1.0)
    again.has_final_code = False
    assert (of(again).form, again.checks) == ("fours", 0), "it is known in this process"
    guest.call("lb_byte_sums", 0)


def test_in_a_guest_that_is_nearly_full_nothing_is_measured_and_it_goes_on(
    make_guest: MakeGuest,
) -> None:
    """Whatever room is left. Where ggml has none for a graph, it ends the guest."""
    guest, piece = make_guest(memory_limit=1 << 26), 1 << 14
    pieces = [guest.call("lb_alloc", piece) for _ in range(60)]
    size = 1 << 23
    while size >= 16:
        if not guest.call("lb_alloc", size):
            size //= 2
    measured = []
    for pointer in pieces:  # neighbours: what is free becomes one block
        guest.call("lb_free", pointer)
        measured.append(byte_sums._measure(guest) is not None)
    assert not any(measured[: 2**17 // piece])
    assert measured[-1]


def test_an_interrupted_measurement_is_made_again(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([0, 0, None, 1])

    def measure(_: Guest) -> int:
        if (form := next(found)) is None:
            raise KeyboardInterrupt
        return form

    monkeypatch.setattr(byte_sums, "_measure", measure)
    monkeypatch.setattr(byte_sums, "_PAUSE", 0.0)
    slow = Slow(guest, lambda form: 1.0)
    slow.has_final_code = False
    sums = of(slow)
    assert not sums.try_again()
    assert not sums.try_again()
    with pytest.raises(KeyboardInterrupt):
        sums.try_again()
    assert slow.kept == {}
    assert sums.try_again()
    assert (sums.form, slow.kept) == ("fours", {"kernels": "fours"})
    guest.call("lb_byte_sums", 0)


def test_where_the_form_changes_in_the_middle_the_engine_says_it_and_answers_stay_the_same(
    wasm: Path, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([0, 0, 1])
    monkeypatch.setattr(type(guest), "has_final_code", False)
    monkeypatch.setattr(byte_sums, "_measure", lambda guest: next(found))
    monkeypatch.setattr(byte_sums, "_PAUSE", 0.0)
    asked = [f"{greeting}, my name is Zorblax. What is it?" for greeting in ("Hi", "Hello", "Yo")]
    with LlamaBridge("demo", backend="wasm") as llama:
        forms, answers = [], []
        for prompt in asked:
            answers.append(llama.generate(prompt, temperature=0, max_tokens=20).text)
            forms.append(llama.info.version.rpartition(" ")[2])
    assert forms == ["pairs", "pairs", "fours"]
    monkeypatch.setenv(ENVIRONMENT, "pairs")
    with LlamaBridge("demo", backend="wasm") as llama:
        assert answers == [
            llama.generate(prompt, temperature=0, max_tokens=20).text for prompt in asked
        ]


def test_a_slow_machine_tries_less_often(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(guest, lambda form: (0.010, 0.005)[form])
    for clock in ("perf_counter", "thread_time"):
        monkeypatch.setattr(time, clock, lambda: slow.now)
    assert of(slow).form == "fours"
    assert slow.checks == 6
    guest.call("lb_byte_sums", 0)


def test_it_takes_a_few_milliseconds(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    def choose() -> None:
        monkeypatch.setattr(byte_sums, "_measured", None)
        ByteSums(guest)

    seconds = idle_seconds(choose)
    guest.call("lb_byte_sums", 0)
    assert seconds < 0.005


@pytest.mark.parametrize("form", FORMS)
def test_the_environment_names_the_form_and_the_engine_says_it(
    wasm: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv(ENVIRONMENT, form)
    with LlamaBridge("demo", backend="wasm") as llama:
        assert f"bytes summed in {form}" in llama.info.version
        assert llama.generate("My name is", max_tokens=4, temperature=0).text


def test_a_form_that_nobody_knows_is_refused(wasm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, "threes")
    with pytest.raises(BackendUnavailable, match=r"(?s)'threes'.*pairs or fours"):
        LlamaBridge("demo", backend="wasm")
