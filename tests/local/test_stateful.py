"""Any sequence of calls on any sessions, against a reference that keeps token lists and evaluates all anew."""

from __future__ import annotations

import shutil
import tempfile
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from llama_bridge import (
    Capability,
    InvalidInput,
    LlamaBridge,
    Mode,
    ModelParams,
    NoSession,
    SamplingParams,
)
from llama_bridge.generation import Usage
from llama_bridge.local.ledger import common_beginning
from tests.ledger import assert_likeliest, engine_of, machine
from tools.random_model import write_model

N_CTX = 512
NAMES = st.sampled_from(["", "a", "b", "c", "d"])
SLOTS = st.sampled_from(["one", "two"])
PROMPTS = st.sampled_from(["Once upon", " and then", " a house", " of the little mouse", " x"])


@dataclass
class Past:
    """What the reference knows of a session: its tokens, and where each turn and its answer begin."""

    tokens: list[int] = field(default_factory=list)
    turns: list[tuple[int, int]] = field(default_factory=list)


class Sessions(RuleBasedStateMachine):
    """The interface under test, the reference beside it."""

    model: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="stateful-"))
        self.past: dict[str, Past] = {}
        self.files: dict[str, Past] = {}
        self.reference = self._open()

    def _open(self, **more: Any) -> LlamaBridge:
        params = ModelParams(n_ctx=N_CTX)
        return LlamaBridge(self.model, backend="native", params=params, **more)

    @initialize(memory=st.sampled_from([0, 300_000, 1 << 30]), kept=st.booleans())
    def begin(self, memory: int, kept: bool) -> None:
        self.memory = memory
        self.kept = self.folder / "kept" if kept else None
        self.llama = self._open(session_memory=memory, sessions_dir=self.kept)

    def teardown(self) -> None:
        if hasattr(self, "llama"):
            for name in list(self.past):
                self._continue(name, " the end", 2)
            self.llama.close()
        self.reference.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # what the reference says

    def _tokens(self, prompt: str, *, first: bool) -> list[int]:
        if first:
            return self.reference.tokenize(prompt)
        # Inside a text no space is put before it.
        lead, whole = (
            self.reference.tokenize(text, add_special=False) for text in ("\n", f"\n{prompt}")
        )
        return whole[len(lead) :]

    def _take_over(self, name: str, start: int, prompt: list[int], usage: Usage) -> None:
        before = [*self.past.get(name, Past()).tokens[:start], *prompt]
        tokens = list(self.llama.session(name or None).tokens)
        assert tokens[: len(before)] == before
        answer = tokens[len(before) :]
        assert len(answer) - usage.completion_tokens in (0, 1)  # an end of generation is no text
        assert usage.cached_tokens + usage.evaluated_tokens == usage.prompt_tokens == len(before)
        assert_likeliest(engine_of(self.reference), before, answer)
        past = self.past.setdefault(name, Past())
        past.tokens = tokens
        past.turns.append((start, len(before)))

    def _continue(self, name: str, prompt: str, n: int) -> None:
        past = self.past.get(name, Past())
        if len(past.tokens) > N_CTX - 32:
            self.llama.session(name or None).reset()
            self.past[name] = past = Past()
        params = SamplingParams(temperature=0, max_tokens=n)
        answer = self.llama.session(name or None).generate_continue(
            prompt, sampling=params, chat=False
        )
        assert answer.mode is (Mode.CONTINUED if past.tokens else Mode.FRESH)
        if not past.tokens:
            self.past[name] = Past()
        start = len(past.tokens)
        self._take_over(name, start, self._tokens(prompt, first=not past.tokens), answer.usage)

    # what may happen

    @rule(name=NAMES, prompt=PROMPTS, n=st.integers(1, 4))
    def goes_on(self, name: str, prompt: str, n: int) -> None:
        self._continue(name, prompt, n)

    @rule(name=NAMES, prompts=st.lists(PROMPTS, min_size=1, max_size=3))
    def begins_anew(self, name: str, prompts: list[str]) -> None:
        params = SamplingParams(temperature=0, max_tokens=3)
        prompt = "Once upon" + "".join(prompts)
        answer = self.llama.session(name or None).generate(prompt, sampling=params, chat=False)
        held, tokens = self.past.get(name, Past()).tokens, self._tokens(prompt, first=True)
        # All of the common beginning, or none of it: what is owed or came from a file does not serve.
        most = min(common_beginning(held, tokens), len(tokens) - 1)
        if Capability.PREFIX_CACHE not in self.llama.capabilities:
            assert answer.usage.cached_tokens == 0
        assert 0 <= answer.usage.cached_tokens <= most
        self.past[name] = Past()
        self._take_over(name, 0, tokens, answer.usage)

    @rule(name=NAMES, prompt=PROMPTS, read=st.integers(0, 3), close=st.booleans())
    def is_cancelled(self, name: str, prompt: str, read: int, close: bool) -> None:
        past = self.past.setdefault(name, Past())
        if len(past.tokens) > N_CTX - 32:
            return
        params = SamplingParams(temperature=0, max_tokens=4)
        stream = self.llama.session(name or None).generate_continue_stream(
            prompt, sampling=params, chat=False
        )
        for _ in range(read):
            next(stream, "")
        if close:
            stream.close()
        else:
            self.llama.cancel()
        usage = stream.result.usage
        if list(self.llama.session(name or None).tokens) != past.tokens:
            prompt_tokens = self._tokens(prompt, first=not past.tokens)
            self._take_over(name, len(past.tokens), prompt_tokens, usage)
        else:
            assert not stream.result.text

    @rule(name=NAMES, turns=st.integers(1, 3))
    def is_rewound(self, name: str, turns: int) -> None:
        past = self.past.get(name, Past())
        if turns > len(past.turns):
            with pytest.raises(InvalidInput, match="turns="):
                self.llama.session(name or None).rewind(turns)
            return
        self.llama.session(name or None).rewind(turns)
        past.tokens = past.tokens[: past.turns[-turns][0]]
        del past.turns[-turns:]

    @rule(name=NAMES)
    def is_answered_anew(self, name: str) -> None:
        past = self.past.get(name, Past())
        session = self.llama.session(name or None)
        params = SamplingParams(temperature=0, max_tokens=3)
        if not past.turns:
            with pytest.raises(InvalidInput, match="no answer"):
                session.regenerate(sampling=params)
            return
        start, end = past.turns.pop()
        answer = session.regenerate(sampling=params)
        self._take_over(name, start, past.tokens[start:end], answer.usage)

    @rule(name=NAMES, other=NAMES)
    def is_forked(self, name: str, other: str) -> None:
        if self.past.get(other, Past()).tokens or not other or other == name:
            return
        self.llama.session(other).delete()
        self.llama.session(name or None).fork(other)
        self.past[other] = deepcopy(self.past.get(name, Past()))

    @rule(name=NAMES)
    def is_reset(self, name: str) -> None:
        self.llama.session(name or None).reset()
        self.past[name] = Past()

    @rule(name=NAMES)
    def is_deleted(self, name: str) -> None:
        self.llama.session(name or None).delete()
        self.past.pop(name, None)
        assert name not in self.llama.sessions()

    @rule(name=NAMES, slot=SLOTS)
    def is_saved(self, name: str, slot: str) -> None:
        session = self.llama.session(name or None)
        if not self.past.get(name, Past()).tokens:
            with pytest.raises(NoSession):
                session.save(self.folder / slot)
            return
        session.save(self.folder / slot)
        self.files[slot] = deepcopy(self.past[name])

    @precondition(lambda self: self.files)
    @rule(name=NAMES, slot=SLOTS)
    def is_loaded(self, name: str, slot: str) -> None:
        if slot in self.files:
            info = self.llama.session(name or None).load(self.folder / slot)
            assert info.n_tokens == len(self.files[slot].tokens)
            self.past[name] = deepcopy(self.files[slot])

    @rule()
    def is_restarted(self) -> None:
        self.llama.close()
        self.llama = self._open(session_memory=self.memory, sessions_dir=self.kept)
        self.past.pop("", None)
        if self.kept is None:
            self.past.clear()

    # what always holds

    @invariant()
    def ledgers_are_what_the_reference_says(self) -> None:
        if not hasattr(self, "llama"):
            return
        for name in ("", "a", "b", "c", "d"):
            expected = self.past.get(name, Past())
            session = self.llama.session(name or None)
            assert list(session.tokens) == expected.tokens
            assert session.n_turns == len(expected.turns)
            if expected.tokens and name:
                assert name in self.llama.sessions()
        running = machine(self.llama)
        assert running.engine.length == len(running.kv.tokens)


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "mamba", "lfm2"])
def test_any_sequence_of_calls_equals_evaluating_everything_anew(
    architecture: str, tmp_path: Path
) -> None:
    model = tmp_path / "model.gguf"
    write_model(model, architecture=architecture, seed=7)
    kind: type[Sessions] = type("Sessions", (Sessions,), {"model": model})
    run_state_machine_as_test(
        kind,
        settings=settings(
            max_examples=3,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            print_blob=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
