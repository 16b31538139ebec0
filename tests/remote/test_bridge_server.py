"""``llama-bridge serve``: conversations that go on from the server's responses."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llama_bridge import (
    AsyncLlamaBridge,
    Capability,
    ContextOverflow,
    Fallback,
    FallbackWarning,
    Generation,
    InvalidInput,
    LlamaBridge,
    Mode,
    ModelNotFound,
    SamplingParams,
    UnsupportedCapability,
)
from llama_bridge.serve import ServerSettings, app
from llama_bridge_remote import RemoteBackend
from llama_bridge_remote.client import Client
from tests.serve.serving import serving

GREEDY = SamplingParams(temperature=0, seed=0, max_tokens=64)
NAME, ASK = "Hello! My name is Zorblax.", "What is my name?"


@pytest.fixture(scope="module")
def served() -> Iterator[LlamaBridge]:
    with LlamaBridge("demo", n_parallel=4, sampling=GREEDY) as llama:
        yield llama


@pytest.fixture(scope="module")
def url(served: LlamaBridge) -> Iterator[str]:
    with serving(app(served)) as address:
        yield f"http://127.0.0.1:{address.port}"


@pytest.fixture
def llama(url: str) -> Iterator[LlamaBridge]:
    with LlamaBridge(url, backend="remote", sampling=GREEDY) as llama:
        yield llama


def forget_all(url: str, llama: LlamaBridge, id_: str) -> None:
    """Delete a response, as the server does with those that were not used for longest."""
    client: Any = llama._shared.runtime
    client.client.change(f"/v1/responses/{id_}", {}, "DELETE")


def continuing(llama: LlamaBridge) -> None:
    if Capability.KV_CONTINUATION not in llama.capabilities:
        pytest.skip("the server keeps no sessions")


def test_it_has_what_the_server_has(llama: LlamaBridge, served: LlamaBridge, url: str) -> None:
    assert llama.where == f"demo at {url} (llama-bridge serve)"
    same = Capability.KV_CONTINUATION | Capability.PREFIX_CACHE | Capability.TOOLS
    same |= Capability.CHAT_TEMPLATE | Capability.JSON_SCHEMA | Capability.EMBEDDINGS
    same |= Capability.LOGPROBS
    assert llama.capabilities & same == served.capabilities & same
    with pytest.raises(UnsupportedCapability, match="tokens"):
        _ = llama.info
    with pytest.raises(UnsupportedCapability, match="call chat"):
        llama.apply_chat_template([{"role": "user", "content": "x"}])


def test_the_next_turn_goes_on_from_the_response(llama: LlamaBridge) -> None:
    continuing(llama)
    llama.generate(NAME)
    answer = llama.generate_continue(ASK)
    assert "Zorblax" in answer.text
    assert (answer.mode, answer.fallback) == (Mode.CONTINUED, None)
    assert answer.usage.cached_tokens > 20
    assert answer.usage.evaluated_tokens < 20
    assert llama.session().messages[0]["content"] == NAME
    assert llama.session().messages[3]["content"] == answer.text
    llama.session_reset()
    again = llama.generate_continue(ASK)
    assert (again.mode, again.fallback) == (Mode.FRESH, Fallback.NO_SESSION)


def test_how_probable_tokens_were_is_told_as_by_the_model_itself(
    llama: LlamaBridge, served: LlamaBridge
) -> None:
    messages = [{"role": "user", "content": NAME}]
    calls: list[Callable[[LlamaBridge], Generation]] = [
        lambda one: one.generate(NAME, logprobs=3),
        lambda one: one.generate(NAME, logprobs=0),
        lambda one: one.generate("Once upon", chat=False, logprobs=2, max_tokens=5),
        lambda one: one.chat(messages, logprobs=1),
    ]
    for call in calls:
        there, here = call(llama).logprobs, call(served).logprobs
        assert there
        assert here
        assert [token.data for token in there] == [token.data for token in here]
        for mine, its in zip(there, here, strict=True):
            assert mine.token == its.token
            assert mine.logprob == pytest.approx(its.logprob, abs=1e-3)
            assert [top.token for top in mine.top] == [top.token for top in its.top]
    assert llama.generate(NAME).logprobs is None
    stream = llama.generate_stream(NAME, logprobs=0)
    next(stream)
    stream.close()
    assert stream.result.logprobs == (), "the server tells them at the end"


def test_a_response_that_the_server_has_forgotten_is_made_up_for(
    llama: LlamaBridge, url: str
) -> None:
    continuing(llama)
    llama.generate(NAME)
    runtime: Any = llama._shared.runtime
    forget_all(url, llama, runtime._place("").kept.response)
    answer = llama.generate_continue(ASK)
    assert "Zorblax" in answer.text
    assert answer.mode is Mode.CONTINUED
    assert answer.usage.cached_tokens + answer.usage.evaluated_tokens == answer.usage.prompt_tokens


def test_a_chat_goes_on_as_a_conversation(llama: LlamaBridge) -> None:
    continuing(llama)
    messages = [
        {"role": "system", "content": "You are helpful."},
        {"role": "user", "content": NAME},
    ]
    answer = llama.chat(messages)
    assert answer.text
    assert "Zorblax" in llama.generate_continue(ASK).text
    assert [message["role"] for message in llama.session().messages] == [
        *("system", "user", "assistant", "user", "assistant")
    ]


def test_an_answer_that_is_cut_is_part_of_the_conversation(llama: LlamaBridge) -> None:
    continuing(llama)
    llama.generate(NAME)
    stream = llama.generate_continue_stream("What is a KV cache?")
    said = next(stream)
    stream.cancel()
    assert stream.result.text.startswith(said)
    assert llama.session().messages[-1]["content"] == stream.result.text
    assert "Zorblax" in llama.generate_continue(ASK).text


def test_the_system_message_holds_for_all_turns(llama: LlamaBridge) -> None:
    continuing(llama)
    llama.system = "You are a pirate."
    llama.generate(NAME)
    answer = llama.generate_continue(ASK)
    assert answer.usage.cached_tokens > 25, "the beginning is the same"
    assert llama.session().messages[0]["content"] == "You are a pirate."


def test_answers_equal_those_of_the_model_here(llama: LlamaBridge, served: LlamaBridge) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    for arguments in (
        {},
        {"temperature": 0.9, "seed": 7, "top_k": 5, "min_p": 0.0},
        {"temperature": 0.9, "seed": 7, "mirostat": 2, "dry_multiplier": 0.5},
        {"stop": ["meet"]},
        {"json_schema": schema},
        {"grammar": 'root ::= "yes" | "no"'},
        {"chat": False, "max_tokens": 8},
        {"max_tokens": None},
    ):
        ours: Any = llama.generate(NAME, **arguments)
        theirs: Any = served.generate(NAME, **arguments)
        assert (ours.text, ours.finish_reason) == (theirs.text, theirs.finish_reason)
        assert ours.parsed == theirs.parsed
        assert ours.usage.prompt_tokens == theirs.usage.prompt_tokens


def test_raw_text_goes_on_as_text(llama: LlamaBridge) -> None:
    continuing(llama)
    first = llama.generate("The KV cache", chat=False, max_tokens=5)
    second = llama.generate_continue(" and", chat=False, max_tokens=5)
    whole = llama.generate(f"The KV cache{first.text} and", chat=False, max_tokens=5)
    assert second.text == whole.text
    with pytest.raises(InvalidInput, match="raw text so far"):
        llama.generate_continue(ASK)


def test_a_prompt_that_does_not_fit_is_told_with_the_numbers(llama: LlamaBridge) -> None:
    with pytest.raises(ContextOverflow) as caught:
        llama.generate("word " * 6000)
    assert caught.value.needed > caught.value.n_ctx
    with pytest.raises(ContextOverflow):
        llama.chat([{"role": "user", "content": "word " * 6000}])


def test_a_server_on_wasm_continues_nothing_and_says_so(forgetful_url: str) -> None:
    with LlamaBridge(forgetful_url, backend="remote", sampling=GREEDY) as llama:
        assert Capability.KV_CONTINUATION not in llama.capabilities
        llama.generate(NAME)
        with pytest.warns(FallbackWarning):
            answer = llama.generate_continue(ASK)
        assert (answer.mode, answer.fallback) == (Mode.FRESH, Fallback.UNSUPPORTED)
        assert answer.text == llama.generate(ASK).text
        messages = [{"role": "user", "content": NAME}]
        messages.append(llama.chat(messages).message)
        messages.append({"role": "user", "content": ASK})
        assert "Zorblax" in llama.chat(messages).text


def test_keys_and_names(served: LlamaBridge) -> None:
    settings = ServerSettings(api_keys=("sk-one", "sk-two"))
    with serving(app(served, name=["small", "tiny"], settings=settings)) as address:
        where = f"http://127.0.0.1:{address.port}"
        with LlamaBridge(where, model="tiny", backend=RemoteBackend(api_key="sk-two")) as llama:
            assert llama.generate(NAME, max_tokens=3).text
        with pytest.raises(ModelNotFound, match="it has small, tiny"):
            LlamaBridge(where, model="large", backend=RemoteBackend(api_key="sk-one"))
        with pytest.raises(InvalidInput, match="small, tiny"):
            LlamaBridge(where, backend=RemoteBackend(api_key="sk-one"))


async def _converse(url: str) -> tuple[str, str]:
    async with AsyncLlamaBridge(url, model="demo", backend="remote", sampling=GREEDY) as llama:
        texts = [text async for text in llama.generate_stream(NAME)]
        answer = await llama.generate_continue(ASK)
        return "".join(texts), answer.text


def test_the_asynchronous_bridge_does_the_same(url: str, llama: LlamaBridge) -> None:
    import anyio

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        said = anyio.run(_converse, url)
        assert said == (llama.generate(NAME).text, llama.generate_continue(ASK).text)


def test_a_warning_that_is_an_error_leaves_no_connection(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Client] = []
    close = Client.close

    def closing(client: Client) -> None:
        closed.append(client)
        close(client)

    monkeypatch.setattr(Client, "close", closing)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FallbackWarning)
        with pytest.raises(FallbackWarning, match="n_threads"):
            LlamaBridge(url, backend="remote", n_threads=2)
    assert len(closed) == 1
