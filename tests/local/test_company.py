"""Answers that are computed together are those that would have been computed alone, and none disturbs another."""

from __future__ import annotations

import asyncio
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import (
    AsyncLlamaBridge,
    Busy,
    ClosedError,
    EngineError,
    Generation,
    InvalidInput,
    LlamaBridge,
    Mode,
    Progress,
    SamplingParams,
    TextStream,
)
from llama_bridge.files import format as session_format
from llama_bridge.files import replacing
from llama_bridge.local.local_runtime import LocalRuntime
from llama_bridge.local.running_turn import RunningTurn
from tests.ledger import GREEDY
from tests.making import MakeModel

pytestmark = [
    pytest.mark.not_remote("these are the answers of one local runtime"),
    pytest.mark.requires_capability("parallel"),
    pytest.mark.filterwarnings("ignore::llama_bridge.FallbackWarning"),
]
sessions = pytest.mark.requires_capability("parallel", "session_tools")

QUESTIONS = [
    "Hello!",
    "What is the capital of France?",
    "Tell me a story about a cat.",
    "Count from one to ten.",
    "Who are you?",
    "What is two plus three?",
    "Name a colour.",
    "Say goodbye.",
]
NEVER_ENDS = {0: -math.inf, 1: -math.inf, 5: -math.inf}  # BOS and the two ends of the demo model
ENDLESS = SamplingParams(temperature=0, max_tokens=700, logit_bias=NEVER_ENDS)
LONG = SamplingParams(temperature=0, max_tokens=150, logit_bias=NEVER_ENDS)
RAW = "the quick brown fox " * 3


@pytest.fixture
def four(llama_backend: str) -> Iterator[LlamaBridge]:
    with LlamaBridge("demo", backend=llama_backend, n_parallel=4, n_ctx=4096) as llama:
        yield llama
        assert_in_step(llama)


def runtime(llama: LlamaBridge) -> LocalRuntime:
    found = llama._shared.alive()
    assert isinstance(found, LocalRuntime)
    return found


def assert_in_step(llama: LlamaBridge) -> None:
    """Each ledger says what its sequence holds."""
    for seat in runtime(llama)._pool.seats:
        kv = seat.active.kv
        assert kv.sequence.length == len(kv.tokens)


def at_once(*calls: Callable[[], Any], seconds: float = 60) -> list[Any]:
    """Make all calls at the same time, each in a thread; what each gave or raised."""
    results: list[Any] = [None] * len(calls)
    ready = threading.Barrier(len(calls))

    def run(i: int) -> None:
        ready.wait()
        try:
            results[i] = calls[i]()
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
        assert not thread.is_alive(), "somebody waits for ever"
    return results


def asking(llama: LlamaBridge, question: str, **how: Any) -> Callable[[], Generation]:
    return lambda: llama.generate(question, **({"sampling": GREEDY} | how))


@pytest.fixture(scope="module")
def alone(request: pytest.FixtureRequest) -> dict[str, dict[str, str]]:
    return {}


def answers_alone(backend: str, known: dict[str, dict[str, str]]) -> dict[str, str]:
    """What each question is answered alone."""
    if backend not in known:
        with LlamaBridge("demo", backend=backend) as llama:
            known[backend] = {q: llama.generate(q, sampling=GREEDY).text for q in QUESTIONS}
    return known[backend]


@pytest.mark.parametrize("n_parallel", [2, 4, 8])
def test_in_company_each_answer_is_the_one_alone(
    llama_backend: str, alone: dict[str, dict[str, str]], n_parallel: int
) -> None:
    expected = answers_alone(llama_backend, alone)
    with LlamaBridge("demo", backend=llama_backend, n_parallel=n_parallel, n_ctx=4096) as llama:
        for _ in range(3):
            found = at_once(*(asking(llama, question) for question in QUESTIONS))
            assert [answer.text for answer in found] == list(expected.values())
            assert all(answer.mode is Mode.FRESH for answer in found)
        assert_in_step(llama)


def test_they_are_computed_in_the_same_batches(four: LlamaBridge, monkeypatch: Any) -> None:
    engine = runtime(four)._engine
    together, sizes = engine.decode_together, list[int]()

    def counted(pieces: Any) -> bool:
        sizes.append(len(pieces))
        return together(pieces)

    monkeypatch.setattr(engine, "decode_together", counted)
    at_once(*(asking(four, question) for question in QUESTIONS[:4]))
    assert sizes.count(4) + sizes.count(3) > 5


def test_a_long_prompt_lets_the_others_go_on(four: LlamaBridge) -> None:
    """Between two texts of a stream there is never the whole prefill of another."""
    stream = four.generate_stream(RAW, sampling=ENDLESS, chat=False)
    next(stream)
    gaps: list[float] = []
    newcomer: list[TextStream] = []
    long = RAW * 40

    def read() -> None:
        last = time.perf_counter()
        for _ in stream:
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    newcomer.append(four.generate_stream(long, sampling=GREEDY, chat=False))
    next(newcomer[0], None)
    texts_meanwhile = len(gaps)
    newcomer[0].close()
    stream.close()
    thread.join(30)
    assert texts_meanwhile > 10


def test_the_shortest_prompt_does_not_wait_for_the_longest(four: LlamaBridge) -> None:
    first: list[str] = []
    prompts = {"long": RAW * 60, "short": RAW}

    def ask(which: str) -> None:
        with four.generate_stream(prompts[which], sampling=GREEDY, chat=False) as stream:
            next(stream, None)
            first.append(which)

    long = threading.Thread(target=ask, args=("long",), daemon=True)
    long.start()
    while not runtime(four)._pool.turns():
        time.sleep(0.001)
    ask("short")
    long.join(30)
    assert first == ["short", "long"]


def test_a_stream_that_nobody_reads_holds_no_one_up_and_is_not_computed_to_its_end(
    four: LlamaBridge,
) -> None:
    left = four.generate_stream(RAW, sampling=ENDLESS, chat=False)
    next(left)
    for question in QUESTIONS:
        assert four.generate(question, sampling=GREEDY).text
    turn = runtime(four)._pool.turns()[0]
    assert len(turn.texts) < 50, "it was computed although nobody reads it"
    left.close()


def test_those_that_nobody_reads_make_way_when_all_places_are_taken(four: LlamaBridge) -> None:
    short = SamplingParams(temperature=0, max_tokens=60)
    left = [four.generate_stream(f"{RAW}{i}", sampling=short, chat=False) for i in range(4)]
    for stream in left:
        next(stream)
    assert four.generate("Hello!", sampling=GREEDY).text
    assert all(stream.result.usage.completion_tokens for stream in left)


def test_cancelling_one_touches_no_other(
    four: LlamaBridge, llama_backend: str, alone: dict[str, dict[str, str]]
) -> None:
    expected = answers_alone(llama_backend, alone)
    doomed = four.generate_stream(RAW * 40, sampling=ENDLESS, chat=False)

    def cancel() -> Any:
        time.sleep(0.002)
        doomed.cancel()
        return doomed.result

    found = at_once(*(asking(four, question) for question in QUESTIONS[:3]), cancel)
    assert [answer.text for answer in found[:3]] == [expected[q] for q in QUESTIONS[:3]]
    assert found[3].finish_reason == "cancelled"


def test_cancel_of_the_bridge_ends_all(four: LlamaBridge) -> None:
    streams = [four.generate_stream(f"{RAW}{i}", sampling=ENDLESS, chat=False) for i in range(3)]
    for stream in streams:
        next(stream)
    four.cancel()
    assert [stream.result.finish_reason for stream in streams] == ["cancelled"] * 3
    assert four.generate("Hello!", sampling=GREEDY).finish_reason == "stop"


def test_an_error_of_one_ends_only_that_one(
    four: LlamaBridge, llama_backend: str, alone: dict[str, dict[str, str]]
) -> None:
    expected = answers_alone(llama_backend, alone)
    n_vocab = four.info.n_vocab
    banned = GREEDY.__class__(
        temperature=0, logit_bias=dict.fromkeys(range(n_vocab), -float("inf"))
    )
    found = at_once(
        *(asking(four, question) for question in QUESTIONS[:3]), asking(four, "x", sampling=banned)
    )
    assert [answer.text for answer in found[:3]] == [expected[q] for q in QUESTIONS[:3]]
    assert isinstance(found[3], EngineError)


def test_all_kinds_of_answers_at_once(four: LlamaBridge) -> None:
    weather = {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"enum": ["Oslo", "Rome"]}},
                "required": ["city"],
            },
        },
    }
    user = [{"role": "user", "content": "Weather in Oslo?"}]
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    for _ in range(3):
        shaped, called, logged, hot = at_once(
            lambda: four.generate("A number?", json_schema=schema, temperature=0, max_tokens=60),
            lambda: four.chat(user, tools=[weather], tool_choice="required", max_tokens=90),
            lambda: four.generate("Hello!", logprobs=3, sampling=GREEDY),
            lambda: four.generate("Tell me a story.", temperature=1.0, seed=7, max_tokens=40),
        )
        assert isinstance(shaped.parsed["n"], int)
        assert called.tool_calls[0].name == "weather"
        assert len(logged.logprobs) == logged.usage.completion_tokens
        assert hot.usage.completion_tokens > 0


def test_a_seed_gives_the_same_answer_in_company(four: LlamaBridge) -> None:
    how: dict[str, Any] = {"sampling": None, "temperature": 1.2, "seed": 11, "max_tokens": 40}
    one = four.generate("Tell me a story.", **how).text
    found = at_once(
        lambda: four.generate("Tell me a story.", **how),
        *(asking(four, question) for question in QUESTIONS[:3]),
    )
    assert found[0].text == one


def test_one_too_many_is_refused_at_once_with_the_number(llama_backend: str) -> None:
    with LlamaBridge("demo", backend=llama_backend, n_parallel=2, max_waiting=3) as llama:
        streams = [llama.generate_stream(RAW, sampling=ENDLESS, chat=False) for _ in range(2)]
        readers = [threading.Thread(target=list, args=(s,), daemon=True) for s in streams]
        for reader in readers:
            reader.start()
        waiting = [threading.Thread(target=asking(llama, "Hello!"), daemon=True) for _ in range(3)]
        for thread in waiting:
            thread.start()
        deadline = time.monotonic() + 10
        error: Busy | None = None
        while error is None and time.monotonic() < deadline:
            if len(runtime(llama)._scheduler._queue) >= 3:
                with pytest.raises(Busy, match="3 calls wait") as caught:
                    llama.generate("Hello!")
                error = caught.value
            elif not any(reader.is_alive() for reader in readers):
                pytest.skip("this machine was faster than the test")
        assert error is not None
        assert error.waiting == 3
        for thread in [*waiting, *readers]:
            thread.join(60)
            assert not thread.is_alive()


def test_who_waits_is_served_in_order(llama_backend: str) -> None:
    with LlamaBridge("demo", backend=llama_backend, n_parallel=2) as llama:
        blockers = [llama.generate_stream(RAW, sampling=ENDLESS, chat=False) for _ in range(2)]
        readers = [threading.Thread(target=list, args=(s,), daemon=True) for s in blockers]
        served: list[int] = []

        def ask(i: int) -> None:
            stream = llama.generate_stream("Hello!", sampling=GREEDY)
            served.append(i)
            assert stream.result.text

        for reader in readers:
            reader.start()
        threads = []
        for i in range(6):
            threads.append(threading.Thread(target=ask, args=(i,), daemon=True))
            threads[-1].start()
            deadline = time.monotonic() + 5
            while len(runtime(llama)._scheduler._queue) <= i and time.monotonic() < deadline:
                time.sleep(0.0005)
        for thread in [*threads, *readers]:
            thread.join(60)
        assert sorted(served) == list(range(6))
        # Two that are let in by one end may note it in any order.
        assert all(abs(i - at) <= 1 for at, i in enumerate(served))


@pytest.mark.skipif(sys.platform == "emscripten", reason="the page has a loop of its own")
def test_tasks_are_computed_together_too(four: LlamaBridge) -> None:
    async def ask() -> list[Generation]:
        llama = AsyncLlamaBridge.of(four)
        return await asyncio.gather(*(llama.generate(q, sampling=GREEDY) for q in QUESTIONS))

    assert [answer.finish_reason for answer in asyncio.run(ask())] == ["stop"] * len(QUESTIONS)


def test_closing_in_the_middle_ends_all_and_keeps_what_was_said(llama_backend: str) -> None:
    llama = LlamaBridge("demo", backend=llama_backend, n_parallel=4, n_ctx=4096)
    results: list[Any] = []

    def ask(i: int) -> None:
        try:
            results.append(llama.generate(f"{RAW}{i}", sampling=ENDLESS, chat=False))
        except ClosedError as error:
            results.append(error)

    threads = [threading.Thread(target=ask, args=(i,), daemon=True) for i in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    llama.close()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert len(results) == 6


def test_a_common_beginning_is_evaluated_once(four: LlamaBridge) -> None:
    rules = "You are a friendly helper who knows a lot about cats and dogs. " * 4
    messages = [
        [{"role": "system", "content": rules}, {"role": "user", "content": q}] for q in QUESTIONS
    ]
    first = four.chat(messages[0], sampling=GREEDY)
    found = at_once(*(lambda m=m: four.chat(m, sampling=GREEDY) for m in messages[1:4]))
    assert first.usage.cached_tokens == 0
    assert all(answer.usage.cached_tokens > 0.6 * first.usage.prompt_tokens for answer in found)


def test_when_the_cells_run_out_the_youngest_makes_way_and_comes_back(llama_backend: str) -> None:
    """Together they need more cells than there are; each alone has enough."""
    with LlamaBridge("demo", backend=llama_backend) as llama:
        expected = [llama.generate(f"{RAW * 4}{i}", sampling=LONG, chat=False) for i in range(4)]
        llama.session_reset()
    with LlamaBridge("demo", backend=llama_backend, n_parallel=4, n_ctx=512) as llama:
        found = at_once(
            *(asking(llama, f"{RAW * 4}{i}", sampling=LONG, chat=False) for i in range(4))
        )
        assert [type(answer) for answer in found] == [Generation] * 4
        n = [answer.usage.completion_tokens for answer in found]
        assert n == [answer.usage.completion_tokens for answer in expected]
        assert_in_step(llama)


def test_who_made_way_touches_no_cell_until_there_is_room(
    llama_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And who comes back is evaluated beside the others, not before them."""
    wrong: list[str] = []
    advance = RunningTurn.advance

    def watched(turn: RunningTurn, *, reading: bool) -> None:
        held, parked = len(turn.active.kv.tokens), turn.parked
        advance(turn, reading=reading)
        if parked and len(turn.active.kv.tokens) > held:
            wrong.append("it took cells that it had left to others")

    monkeypatch.setattr(RunningTurn, "advance", watched)
    with LlamaBridge("demo", backend=llama_backend, n_parallel=6, n_ctx=256) as llama:
        prompts = [f"{RAW * (1 + i % 3)}{i}" for i in range(12)]
        how: dict[str, Any] = {"sampling": LONG, "chat": False}
        alone = [llama.generate(prompt, **how).finish_reason for prompt in prompts]
        found = at_once(*(asking(llama, prompt, **how) for prompt in prompts))
        assert [answer.finish_reason for answer in found] == alone
        assert wrong == []
        assert_in_step(llama)


# named sessions


@sessions
def test_conversations_side_by_side_lose_no_cell(four: LlamaBridge) -> None:
    names = ["Zorvane", "Quill", "Marlow"]
    talks = [four.session(name) for name in names]
    for talk, name in zip(talks, names, strict=True):
        talk.generate(f"Hello! My name is {name}.", sampling=GREEDY)
    for _ in range(2):
        for talk, name in zip(talks, names, strict=True):
            held = len(talk.tokens)
            answer = talk.generate_continue("What is my name?", sampling=GREEDY)
            assert name in answer.text
            assert answer.usage.cached_tokens == held
            assert answer.mode is Mode.CONTINUED


@sessions
def test_conversations_at_once_answer_as_one_after_the_other(four: LlamaBridge) -> None:
    names = ["Zorvane", "Quill", "Marlow", "Tavik", "Osha"]
    talks = [four.session(name) for name in names]

    def talk(i: int) -> str:
        talks[i].generate(f"Hello! My name is {names[i]}.", sampling=GREEDY)
        return talks[i].generate_continue("What is my name?", sampling=GREEDY).text

    found = at_once(*(lambda i=i: talk(i) for i in range(5)))
    for name, text in zip(names, found, strict=True):
        assert name in text


@sessions
def test_a_fork_shares_the_cells_of_its_origin(four: LlamaBridge) -> None:
    origin = four.session("origin")
    origin.generate("Hello! My name is Zorvane.", sampling=GREEDY)
    branches = [origin.fork(f"b{i}") for i in range(3)]
    held = len(origin.tokens)
    found = at_once(
        *(lambda b=b: b.generate_continue("What is my name?", sampling=GREEDY) for b in branches)
    )
    assert all("Zorvane" in answer.text for answer in found)
    assert all(answer.usage.cached_tokens >= held - 1 for answer in found)
    assert origin.tokens == origin.tokens[:held]


def test_chats_that_begin_alike_leave_each_other_what_they_have(four: LlamaBridge) -> None:
    """They share what they have in common, and each finds the rest again, as long as there are places for all."""
    system = {"role": "system", "content": RAW * 3}
    names = ["Zorvane", "Quill", "Marlow"]
    chats: list[list[Any]] = [
        [system, {"role": "user", "content": f"Hello! My name is {name}."}] for name in names
    ]
    past = [0] * 3
    for turn in range(3):
        for i, chat in enumerate(chats):
            answer = four.chat(chat, sampling=GREEDY)
            usage = answer.usage
            if turn or i:
                assert usage.cached_tokens > 9 * 3, "what they have in common"
            assert usage.cached_tokens >= past[i] - 2
            past[i] = usage.prompt_tokens + usage.completion_tokens
            chat += [answer.message, {"role": "user", "content": "What is my name?"}]
    for name, chat in zip(names, chats, strict=True):
        assert name in chat[-2]["content"]


@pytest.mark.requires_capability("parallel", "session_tools", "session_persistence")
def test_the_fork_of_a_loaded_conversation_goes_on_from_its_file(
    four: LlamaBridge, llama_backend: str, tmp_path: Path
) -> None:
    """A file's cells serve its own conversation and the branches of it, and only if they go on from all of it."""
    messages: list[Any] = [{"role": "user", "content": "Hello! My name is Zorvane."}]
    with LlamaBridge("demo", backend=llama_backend) as elsewhere:
        first = elsewhere.chat(messages, sampling=GREEDY)
        elsewhere.session_save(tmp_path / "s")
    told = [*messages, first.message, {"role": "user", "content": "What is my name?"}]
    other = [*messages, {"role": "assistant", "content": "No!"}, told[-1]]
    four.session("from file").load(tmp_path / "s")
    held = len(four.session("from file").tokens)
    branches = [four.session("from file").fork(f"b{i}") for i in range(2)]
    assert branches[0].chat(other, sampling=GREEDY).usage.cached_tokens == 0
    answer = branches[1].chat(told, sampling=GREEDY)
    assert "Zorvane" in answer.text
    assert answer.usage.cached_tokens == held
    alone = four.session("alone").chat(told, sampling=GREEDY)
    assert alone.text == answer.text


@pytest.mark.requires_capability("parallel", "session_tools", "session_persistence")
@pytest.mark.parametrize("trust", [False, True])
def test_a_trusted_file_serves_a_branch_that_goes_another_way(
    four: LlamaBridge, llama_backend: str, tmp_path: Path, trust: bool
) -> None:
    messages: list[Any] = [{"role": "user", "content": "Hello! My name is Zorvane."}]
    with LlamaBridge("demo", backend=llama_backend) as elsewhere:
        elsewhere.chat(messages, sampling=GREEDY)
        elsewhere.session_save(tmp_path / "s")
    other = [*messages, {"role": "assistant", "content": "No!"}, {"role": "user", "content": "Hi!"}]
    four.session("from file").load(tmp_path / "s", trust_unverified=trust)
    held = len(four.session("from file").tokens)
    branch = four.session("from file").fork("branch").chat(other, sampling=GREEDY)
    assert (branch.usage.cached_tokens > held // 2) is trust


@pytest.mark.requires_capability("parallel", "session_tools", "session_persistence")
def test_others_are_answered_while_a_conversation_is_written(
    four: LlamaBridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk, or a network, may take its time."""
    four.generate("Hello!", sampling=GREEDY)
    answered: list[str] = []
    replace = replacing.replace_file

    def slow(*args: Any, **more: Any) -> Any:
        answered.append(four.session("other").generate("Hello!", sampling=GREEDY).text)
        return replace(*args, **more)

    monkeypatch.setattr(session_format, "replace_file", slow)
    four.session_save(tmp_path / "s")
    assert answered
    assert four.session_verify(tmp_path / "s").ok


@pytest.mark.requires_capability("parallel", "session_tools", "session_persistence")
def test_a_branch_finds_its_past_after_others_took_all_places(llama_backend: str) -> None:
    with LlamaBridge("demo", backend=llama_backend, n_parallel=2, n_ctx=4096) as llama:
        messages: list[Any] = [{"role": "user", "content": "Hello! My name is Zorvane."}]
        origin = llama.session("origin")
        answer = origin.chat(messages, sampling=GREEDY)
        held = len(origin.tokens)
        branch = origin.fork("branch")
        for i in range(2):
            llama.session(f"other {i}").chat(
                [{"role": "user", "content": f"{i}: Who are you?"}], sampling=GREEDY
            )
        messages += [answer.message, {"role": "user", "content": "What is my name?"}]
        again = branch.chat(messages, sampling=GREEDY)
        assert "Zorvane" in again.text
        assert again.usage.cached_tokens >= held - 1
        assert_in_step(llama)


@sessions
def test_more_conversations_than_places_come_and_go(four: LlamaBridge) -> None:
    names = [f"Zorvane{chr(97 + i)}" for i in range(7)]
    for name in names:
        four.session(name).generate(f"Hello! My name is {name}.", sampling=GREEDY)
    for name in names:
        answer = four.session(name).generate_continue("What is my name?", sampling=GREEDY)
        assert answer.mode is Mode.CONTINUED
        assert answer.usage.evaluated_tokens < 20, "it was evaluated again"


@sessions
def test_a_conversation_is_saved_and_loaded_while_others_are_answered(
    four: LlamaBridge, tmp_path: Any
) -> None:
    talk = four.session("talk")
    talk.generate("Hello! My name is Zorvane.", sampling=GREEDY)
    streams = [four.generate_stream(f"{RAW}{i}", sampling=ENDLESS, chat=False) for i in range(2)]
    for stream in streams:
        next(stream)
    talk.save(tmp_path / "talk")
    talk.reset()
    talk.load(tmp_path / "talk")
    assert "Zorvane" in talk.generate_continue("What is my name?", sampling=GREEDY).text
    for stream in streams:
        assert next(stream, None) is not None, "it was ended or finished for that"
        stream.close()


@sessions
def test_two_calls_of_one_conversation_come_one_after_the_other(four: LlamaBridge) -> None:
    talk = four.session("talk")
    talk.generate("Hello! My name is Zorvane.", sampling=GREEDY)
    found = at_once(
        *(lambda: talk.generate_continue("What is my name?", sampling=GREEDY) for _ in range(4))
    )
    assert all("Zorvane" in answer.text for answer in found)
    assert len(talk.messages) == 10
    assert talk.n_turns == 5


@sessions
def test_a_chat_goes_on_from_a_conversation_at_rest(llama_backend: str, tmp_path: Path) -> None:
    """In memory, on the disk, and in the folder after a restart."""
    said: dict[str, list[Any]] = {}
    how: dict[str, Any] = {"backend": llama_backend, "n_parallel": 2, "n_ctx": 1024}
    for memory in (64 << 20, 0):
        with LlamaBridge(
            "demo", session_memory=memory, sessions_dir=tmp_path / str(memory), **how
        ) as llama:
            for i in range(6):
                messages: list[Any] = [{"role": "user", "content": f"Hello! My name is Quill {i}."}]
                answer = llama.session(f"s{i}").chat(messages, sampling=GREEDY)
                said[f"s{i}"] = [*messages, answer.message]
            assert_goes_on(llama, said)
        with LlamaBridge("demo", sessions_dir=tmp_path / str(memory), **how) as llama:
            assert_goes_on(llama, said)


def assert_goes_on(llama: LlamaBridge, said: dict[str, list[Any]]) -> None:
    for name, messages in said.items():
        talk = llama.session(name)
        held = len(talk.tokens)
        messages += [{"role": "user", "content": "What is my name?"}]
        answer = talk.chat(messages, sampling=GREEDY)
        messages += [answer.message]
        assert "Quill" in answer.text
        assert answer.usage.cached_tokens >= held - 1


@sessions
def test_who_waits_for_a_conversation_keeps_nobody_from_a_place(four: LlamaBridge) -> None:
    talk = four.session("talk")
    stream = talk.generate_stream(RAW, sampling=ENDLESS, chat=False)
    next(stream)
    other = threading.Thread(target=lambda: talk.generate_continue("And?", sampling=GREEDY))
    other.start()
    time.sleep(0.02)
    assert four.generate("Hello!", sampling=GREEDY).text
    four.session("idle").generate("Hello!", sampling=GREEDY)
    assert not runtime(four)._pool.turns()[0].done, "the stream was over before"
    stream.close()
    other.join(30)
    assert talk.n_turns == 2


@pytest.mark.parametrize("wrong", [0, 65, -1, 1.5, True, "4", None])
def test_a_wrong_number_is_refused(wrong: Any, llama_backend: str) -> None:
    with pytest.raises(InvalidInput, match="n_parallel"):
        LlamaBridge("demo", backend=llama_backend, n_parallel=wrong)
    with pytest.raises(InvalidInput, match="max_waiting"):
        LlamaBridge("demo", backend=llama_backend, max_waiting="many")  # type: ignore[arg-type]


@sessions
@pytest.mark.parametrize("architecture", ["llama", "gemma3", "mamba", "lfm2"])
def test_every_kind_of_memory_has_conversations_side_by_side(
    make_model: MakeModel, llama_backend: str, architecture: str
) -> None:
    model = make_model(architecture=architecture)
    few = SamplingParams(temperature=0, max_tokens=12)
    with LlamaBridge(model, backend=llama_backend, n_parallel=3, n_ctx=512) as llama:
        talks = [llama.session(f"s{i}") for i in range(4)]
        for _ in range(2):
            found = at_once(
                *(
                    lambda i=i, talk=talk: talk.generate_continue(f"{RAW}{i}", sampling=few)
                    for i, talk in enumerate(talks)
                )
            )
            assert [type(answer) for answer in found] == [Generation] * 4, found
            assert_in_step(llama)
        assert [answer.mode for answer in found] == [Mode.CONTINUED] * 4
        assert all(answer.usage.cached_tokens > 12 for answer in found)
        branch = talks[0].fork("branch")
        assert branch.tokens == talks[0].tokens
        assert branch.generate_continue("x", sampling=few).usage.cached_tokens > 12
        talks[1].rewind(1)
        assert talks[1].n_turns == 1
        assert_in_step(llama)


def test_one_that_ends_with_its_prompt_says_nothing(llama_backend: str) -> None:
    """It drew its first token later, from logits that were gone when another answer had been computed: EngineError."""
    with LlamaBridge("demo", backend=llama_backend, n_parallel=2) as llama:

        def end(step: Progress) -> None:
            if step.done == step.total:
                answer: Any = late._answer
                answer._turn.end()

        other = llama.generate_stream("Tell me about the KV cache.", temperature=0)
        next(other)
        late = llama.generate_stream("What is a token?", on_progress=end)
        assert "".join(other)
        assert "".join(late) == ""
        assert late.result.finish_reason == "cancelled"
