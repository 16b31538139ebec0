"""The number that a page shares with its worker to stop an answer."""

from __future__ import annotations

import json

import pytest

from .programmer import Programmer

pytestmark = pytest.mark.slow

ASK = """
import json
import js
from pyodide.ffi import to_js
from llama_bridge import LlamaBridge
from llama_bridge_wasm.hosts.browser import stop

flag = js.Int32Array.new(js.SharedArrayBuffer.new(4))
stop.watch(flag)
found = []
with LlamaBridge("demo") as llama:
    for value in (0, 1, 1, 0):
        flag[0] = value
        answer = llama.chat([{"role": "user", "content": "Hello!"}])
        found.append([answer.finish_reason, answer.usage.completion_tokens, flag[0]])
json.dumps(found)
"""


def test_a_stop_that_comes_before_the_answer_begins_is_not_lost(programmer: Programmer) -> None:
    free, stopped, again, after = json.loads(programmer.run(ASK))
    assert stopped == again == ["cancelled", 0, 1], "and the page's number stays as it wrote it"
    assert free == after
    assert free[0] == "stop"
    assert free[1] > 0
