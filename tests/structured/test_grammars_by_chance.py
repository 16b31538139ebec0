"""Grammars made at random: none that passes the check ends llama.cpp, and both read it in the same way."""

from __future__ import annotations

import random
import sys

import pytest

from llama_bridge import InvalidInput
from llama_bridge.structured import Matcher, check_grammar

if sys.platform == "emscripten":
    pytest.skip("a page has no other process", allow_module_level=True)

from .grammars import random_grammar
from .native_judge import native_judge
from .walks import accepts, walk


@pytest.mark.usefixtures("native_backend")
@pytest.mark.parametrize(
    ("count", "seed"), [(250, 1), pytest.param(4000, 2, marks=pytest.mark.slow)]
)
def test_what_passes_the_check_is_safe_in_llama_cpp(count: int, seed: int) -> None:
    rng = random.Random(seed)
    passed = 0
    with native_judge() as judge:
        for _ in range(count):
            grammar = random_grammar(rng)
            try:
                check_grammar(grammar)
                start = Matcher(grammar)
                texts = [walk(start, rng, soft=10) for _ in range(2)]
                texts += ["".join(rng.choices("abcx0é\n", k=rng.randrange(5))) for _ in range(3)]
                mine = [accepts(start, text) for text in texts]
            except InvalidInput:
                continue
            passed += 1
            assert judge.ask(grammar, texts) == mine, grammar
    assert passed > count / 10
