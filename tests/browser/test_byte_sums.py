"""In a page the kernels' form is measured once the browser has compiled both, between answers."""

from __future__ import annotations

import json

import pytest

from .programmer import Programmer

pytestmark = pytest.mark.slow

ASK = """
import asyncio
import json
import js
from llama_bridge import LlamaBridge
from llama_bridge_wasm.engine import byte_sums

took, measure = [], byte_sums._measure
def timed(guest):
    clock = js.performance.now()
    found = measure(guest)
    took.append(js.performance.now() - clock)
    return found
byte_sums._measure = timed
forms = []
with LlamaBridge("demo") as llama:
    for name in ("Ada", "Bob", "Cleo", "Dan"):
        llama.generate(f"{name}: Hello! My name is {name}. What is my name?", max_tokens=4)
        forms.append(llama.info.version.rpartition(" ")[2])
        await asyncio.sleep(0.6)
with LlamaBridge("demo") as llama:
    forms.append(llama.info.version.rpartition(" ")[2])
json.dumps([forms, took])
"""


def test_a_page_measures_three_times_and_then_keeps_to_it(programmer: Programmer) -> None:
    forms, took = json.loads(programmer.run(ASK))
    assert forms[:2] == ["pairs", "pairs"]
    assert forms[2] in ("pairs", "fours")
    assert set(forms[2:]) == {forms[2]}, "also after another load"
    assert len(took) == 3
    assert min(took[1:]) < 20, "milliseconds, also on a machine with other work"
