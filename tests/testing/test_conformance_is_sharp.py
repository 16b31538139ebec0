"""BackendConformance finds the mistakes that a backend's author can make."""

from __future__ import annotations

import pytest

from tests.testing import QUICK

pytest_plugins = ["pytester"]

SUITE = """
import pytest
from llama_bridge.testing import BackendConformance, FakeBackend, babble
from mistakes import {mistake}

class Backend(FakeBackend):
    def load(self, model, params, on_progress=None):
        engine = super().load(model, params, on_progress)
        engine.__class__ = {mistake}
        return engine

class TestBackend(BackendConformance):
    @pytest.fixture
    def backend(self):
        return Backend(babble)
"""

MISTAKES = """
from dataclasses import replace

from llama_bridge.testing import FakeEngine

class DoubleBos(FakeEngine):
    def tokenize(self, text, *, add_special, parse_special):
        return [256] * 2 + super().tokenize(text, add_special=False, parse_special=parse_special)

class ClearForgets(FakeEngine):
    def clear(self):
        del self._tokens[1:]

class StepForgets(FakeEngine):
    def step(self, token):
        following = super().step(token)
        self._tokens.pop()
        return following

class TruncateLies(FakeEngine):
    def truncate(self, length):
        return True

class NeverRewinds(FakeEngine):
    def truncate(self, length):
        return length in (0, len(self._tokens)) and super().truncate(length)

class CancelledTokenStays(FakeEngine):
    def step(self, token):
        following = super().step(token)
        if following is None:
            self._tokens.append(token)
        return following

class CancelIsDeaf(FakeEngine):
    def cancel(self):
        pass

class LoadKeepsTokens(FakeEngine):
    def state_set(self, state, tokens):
        before = self._tokens[:-1]
        loaded = super().state_set(state, tokens)
        if not loaded:
            self._tokens = before
        return loaded

class UsedAfterClose(FakeEngine):
    def _open(self):
        pass

class Overclaims(FakeEngine):
    @property
    def capabilities(self):
        from llama_bridge import Capability
        return ~Capability(0)
    @capabilities.setter
    def capabilities(self, value):
        pass

class SpelledControlTokens(FakeEngine):
    def tokenize(self, text, *, add_special, parse_special):
        return super().tokenize(text, add_special=add_special, parse_special=True)

class AdaptersDoNothing(FakeEngine):
    def logits(self):
        before, self.info = self.info, replace(self.info, adapters=())
        try:
            return super().logits()
        finally:
            self.info = before

class AdaptersStick(FakeEngine):
    def logits(self):
        self.stuck = self.info.adapters or getattr(self, "stuck", ())
        before, self.info = self.info, replace(self.info, adapters=self.stuck)
        try:
            return super().logits()
        finally:
            self.info = before

class AdaptersKeepTheCache(FakeEngine):
    def set_adapters(self, adapters):
        held, ready = self._tokens, self._ready
        super().set_adapters(adapters)
        self._tokens, self._ready = held, ready

class ForgetsAtTheSameAdapters(FakeEngine):
    def set_adapters(self, adapters):
        super().set_adapters(adapters)
        self.clear()

class IgnoresScales(FakeEngine):
    def logits(self):
        before = self.info
        self.info = replace(before, adapters=tuple(replace(a, scale=1.0) for a in before.adapters))
        try:
            return super().logits()
        finally:
            self.info = before

class RefusesTooLate(FakeEngine):
    def set_adapters(self, adapters):
        self.clear()
        super().set_adapters(adapters)

class ForetellsTooMany(FakeEngine):
    def least_tokens(self, text):
        return len(text) + 1
"""


@pytest.mark.parametrize(
    ("mistake", "found_by"),
    [
        ("DoubleBos", "test_control_tokens_are_read_only_where_asked_for"),
        ("ClearForgets", "test_clearing_leaves_nothing_behind"),
        ("StepForgets", "test_a_step_is_a_decode_and_a_sample"),
        ("TruncateLies", "test_a_rewound_cache_is_as_if_the_rest_had_never_been"),
        ("NeverRewinds", "test_a_prefix_cache_can_be_rewound"),
        ("CancelledTokenStays", "test_a_cancelled_step_leaves_its_token_out"),
        ("CancelIsDeaf", "test_a_cancelled_decode_keeps_what_it_says"),
        ("LoadKeepsTokens", "test_what_is_no_state_is_refused_and_leaves_nothing"),
        ("UsedAfterClose", "test_closing_twice_is_silent_and_use_after_it_one_clear_error"),
        ("Overclaims", "test_a_loaded_model_can_do_nothing_that_its_backend_cannot"),
        ("SpelledControlTokens", "test_control_tokens_are_read_only_where_asked_for"),
        ("AdaptersDoNothing", "test_an_adapter_changes_what_is_computed"),
        ("AdaptersStick", "test_without_its_adapters_a_model_is_as_before"),
        ("AdaptersKeepTheCache", "test_other_adapters_empty_the_cache_and_the_same_leave_it"),
        ("ForgetsAtTheSameAdapters", "test_other_adapters_empty_the_cache_and_the_same_leave_it"),
        ("IgnoresScales", "test_scale_and_content_of_an_adapter_count"),
        ("RefusesTooLate", "test_a_refused_adapter_changes_nothing"),
        ("ForetellsTooMany", "test_a_text_has_at_least_as_many_tokens_as_are_foretold"),
    ],
)
def test_it_finds(pytester: pytest.Pytester, mistake: str, found_by: str) -> None:
    pytester.makepyfile(mistakes=MISTAKES, test_it=SUITE.format(mistake=mistake))
    quick = (*QUICK, "-q", "--tb=no", "-rfE")
    # Where cancel is deaf the test with another thread waits ten seconds for it.
    which = "adapter" if "adapter" in found_by else "not another_thread"
    result = pytester.runpytest_inprocess(*quick, "-k", which)
    result.stdout.fnmatch_lines([f"FAILED *::{found_by}*"])
