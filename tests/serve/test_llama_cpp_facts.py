"""What the tests of llama.cpp's own server hold it to, as facts about this one.

Each fact has the name of the test that it comes from (``tools/server/tests/unit`` in the source that the build fetches), in our
words and with our models. ``OUT`` lists those that do not apply, with the reason.
"""

from __future__ import annotations

import base64
import json
import math
import re
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from llama_bridge import Capability, LlamaBridge, SamplingParams
from llama_bridge.serve import ServerSettings, app
from tests.making import embedding_model

from .serving import Address, Reply, serving


@dataclass
class Servers:
    """What the facts are about."""

    chat: Address
    embedder: Address
    ranker: Address
    locked: Address
    small: Address
    llama: LlamaBridge
    reader: LlamaBridge

    def complete(self, prompt: str = "I believe the meaning of life is", **more: Any) -> Any:
        reply = self.chat.post("/v1/completions", {"prompt": prompt, "max_tokens": 8, **more})
        assert reply.status == 200, reply.body
        return reply.json

    def say(self, *contents: Any, **more: Any) -> Any:
        reply = self.saying(*contents, **more)
        assert reply.status == 200, reply.body
        return reply.json

    def saying(self, *contents: Any, **more: Any) -> Reply:
        roles = ("user", "assistant")
        messages = [
            {"role": roles[i % 2], "content": content} for i, content in enumerate(contents)
        ]
        return self.chat.post("/v1/chat/completions", {"messages": messages, **more})

    def embed(self, texts: Any, **more: Any) -> Any:
        reply = self.embedder.post("/v1/embeddings", {"input": texts, **more})
        assert reply.status == 200, reply.body
        return reply.json

    def chunks(self, *contents: Any, **more: Any) -> list[Any]:
        reply = self.saying(*contents, **more, stream=True)
        assert reply.status == 200
        lines = reply.body.decode().split("\n\n")
        assert lines[-2:] == ["data: [DONE]", ""]
        return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder: Path = tmp_path_factory.mktemp("models")
    embedding_model(folder / "embedder.gguf")
    embedding_model(folder / "ranker.gguf", pooling=4)
    greedy = SamplingParams(temperature=0, max_tokens=None)
    with (
        LlamaBridge("demo", sampling=greedy) as llama,
        LlamaBridge("demo", sampling=greedy, n_ctx=256) as small,
        LlamaBridge(folder / "embedder.gguf") as reader,
        LlamaBridge(folder / "ranker.gguf") as ranker,
        serving(app(llama, name=["demo", "tiny"])) as chat,
        serving(app(reader)) as embedder,
        serving(app(ranker)) as ranking,
        serving(app(llama, settings=LOCKED)) as locked,
        serving(app(small)) as tight,
    ):
        yield Servers(chat, embedder, ranking, locked, tight, llama, reader)


KEY = "sk-this-is-the-key"
LOCKED = ServerSettings(api_keys=(KEY,), cors_origins=("https://web.example",))
Fact = Callable[[Servers], None]
FACTS: dict[str, Fact] = {}


def fact(name: str) -> Callable[[Fact], Fact]:
    def take(held: Fact) -> Fact:
        assert name not in FACTS
        FACTS[name] = held
        return held

    return take


# test_basic.py


@fact("basic: server_start_simple")
def _(servers: Servers) -> None:
    assert servers.chat.ask("GET", "/health").json == {"status": "ok"}


@fact("basic: server_models")
def _(servers: Servers) -> None:
    data = servers.chat.ask("GET", "/v1/models").json["data"]
    assert data[0]["id"] == "demo"


@fact("basic: server_model_aliases_and_tags")
def _(servers: Servers) -> None:
    for name in ("demo", "tiny"):
        assert servers.complete(model=name)["model"] == "demo"


# test_chat_completion.py


@fact("chat: chat_completion")
def _(servers: Servers) -> None:
    body = servers.say("What is the best book?", max_tokens=4)
    assert "cmpl" in body["id"]
    assert body["system_fingerprint"]
    assert body["usage"]["completion_tokens"] == 4
    assert body["choices"][0]["message"]["role"] == "assistant"
    assert body["choices"][0]["finish_reason"] == "length"


@fact("chat: chat_completion, content in parts")
def _(servers: Servers) -> None:
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "the best book?"}]
    whole = servers.say("What is the best book?", max_tokens=8)
    assert servers.say(parts, max_tokens=8)["choices"] == whole["choices"]


@fact("chat: chat_completion_cached_tokens")
def _(servers: Servers) -> None:
    if Capability.PREFIX_CACHE not in servers.llama.capabilities:
        return
    servers.say("Something else.", max_tokens=2)
    found = [
        servers.say(text, max_tokens=2)["usage"]
        for text in ("1 2 3 4 5 6", "1 2 3 4 5 6", "1 2 3 4 5 9", "1 2 3 9 9 9")
    ]
    cached = [usage["prompt_tokens_details"]["cached_tokens"] for usage in found]
    assert cached[1] == found[1]["prompt_tokens"] - 1
    assert cached[1] > cached[2] > cached[3] > 0


@fact("chat: chat_completion_stream")
def _(servers: Servers) -> None:
    chunks = servers.chunks("What is the best book?", max_tokens=8)
    first, *middle, last = (chunk["choices"][0] for chunk in chunks)
    assert first["delta"]["role"] == "assistant"
    assert all("role" not in choice["delta"] for choice in (*middle, last))
    assert all(choice["finish_reason"] is None for choice in (first, *middle))
    assert last["finish_reason"] == "length"
    assert "content" not in last["delta"]
    assert len({chunk["id"] for chunk in chunks}) == 1
    text = "".join(choice["delta"]["content"] for choice in middle)
    whole = servers.say("What is the best book?", max_tokens=8)
    assert text == whole["choices"][0]["message"]["content"]


@fact("chat: chat_completion_with_openai_library")
def _(servers: Servers) -> None:
    made = servers.chat.openai().chat.completions.create(
        model="demo",
        messages=[{"role": "system", "content": "Book"}, {"role": "user", "content": "Hey"}],
        max_tokens=3,
        seed=42,
    )
    assert made.choices[0].finish_reason == "length"
    assert made.choices[0].message.content


@fact("chat: completion_with_response_format, json_object")
def _(servers: Servers) -> None:
    body = servers.say("An example?", max_tokens=60, response_format={"type": "json_object"})
    assert body["choices"][0]["message"]["content"].startswith("{")


SCHEMA = {"const": "42"}


@fact("chat: completion_with_response_format, json_schema")
def _(servers: Servers) -> None:
    shape = {"type": "json_schema", "json_schema": {"schema": SCHEMA}}
    body = servers.say("An example?", response_format=shape)
    assert body["choices"][0]["message"]["content"] == '"42"'


@fact("chat: completion_with_response_format, one that does not exist")
def _(servers: Servers) -> None:
    for wrong in (
        {"type": "sound"},
        {"type": 123},
        {"type": "json_schema", "json_schema": 123},
        {},
    ):
        assert servers.saying("?", response_format=wrong).status == 400


@fact("chat: completion_with_grammar")
def _(servers: Servers) -> None:
    body = servers.say("Does not matter.", grammar='root ::= "a"{5,5}')
    assert body["choices"][0]["message"]["content"] == "aaaaa"


@fact("chat: completion_with_invalid_grammar")
def _(servers: Servers) -> None:
    assert servers.saying("?", grammar="root ::= this is (not GBNF").error["param"] == "grammar"


@fact("chat: invalid_chat_completion_req")
def _(servers: Servers) -> None:
    wrong: list[Any] = [None, "string", [123], [{}], [{"role": 123}], []]
    wrong += [[{"role": "system", "content": 123}], [{"role": "user", "content": "a"}, {}]]
    wrong += [[{"content": "hello"}]]
    for messages in wrong:
        reply = servers.chat.post("/v1/chat/completions", {"messages": messages})
        assert reply.status == 400, messages
        assert reply.error["param"].startswith("messages")


@fact("chat: logprobs")
def _(servers: Servers) -> None:
    body = servers.say("What is the best book?", max_tokens=5, logprobs=True, top_logprobs=10)
    (choice,) = body["choices"]
    tokens = choice["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == choice["message"]["content"]
    for token in tokens:
        assert token["logprob"] <= 0
        assert len(token["top_logprobs"]) == 10
        assert bytes(token["bytes"]).decode() == token["token"]


@fact("chat: logprobs_stream")
def _(servers: Servers) -> None:
    chunks = servers.chunks("What is the best book?", max_tokens=5, logprobs=True, top_logprobs=3)
    said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    # Here they come with the last chunk.
    tokens = chunks[-1]["choices"][0]["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == said
    assert all(len(token["top_logprobs"]) == 3 for token in tokens)


@fact("chat: logit_bias")
def _(servers: Servers) -> None:
    first = servers.say("Hello!", max_tokens=8)["choices"][0]["message"]["content"]
    word = first.split()[0]
    banned = servers.llama.tokenize(f"{word} {word.lower()} {word.upper()}", add_special=False)
    bias = {str(token): -100 for token in banned}
    other = servers.say("Hello!", max_tokens=8, logit_bias=bias)["choices"][0]["message"]["content"]
    assert not other.startswith(word)


@fact("chat: context_size_exceeded")
def _(servers: Servers) -> None:
    reply = servers.saying(*["What is the best book?"] * 500)
    assert reply.status == 400
    assert reply.error["code"] == "context_length_exceeded"
    counted = re.search(
        r"has (?:at least )?(\d+) tokens, but the context holds (\d+)", reply.error["message"]
    )
    assert counted
    assert int(counted[1]) > int(counted[2]) == servers.llama.info.n_ctx


@fact("chat: context_size_exceeded_stream")
def _(servers: Servers) -> None:
    reply = servers.saying(*["What is the best book?"] * 500, stream=True)
    assert (reply.status, reply.error["code"]) == (400, "context_length_exceeded")


@fact("chat: chat_completions_multiple_choices")
def _(servers: Servers) -> None:
    for _ in range(2):
        body = servers.say("What is the best book?", max_tokens=4, n=2)
        assert [choice["index"] for choice in body["choices"]] == [0, 1]
        assert all(choice["finish_reason"] == "length" for choice in body["choices"])


# test_compat_oai_responses.py


@fact("responses: responses_with_openai_library")
def _(servers: Servers) -> None:
    made = servers.chat.openai().responses.create(
        model="demo",
        input=[{"role": "system", "content": "Book"}, {"role": "user", "content": "Hey"}],
        max_output_tokens=8,
    )
    assert made.id.startswith("resp_")
    assert str(made.output[0].id).startswith("msg_")
    assert made.output_text


@fact("responses: responses_stream_with_openai_library")
def _(servers: Servers) -> None:
    stream: Any = servers.chat.openai().responses.create(
        model="demo", input="Hey", max_output_tokens=8, stream=True
    )
    events = list(stream)
    ids = {event.response.id for event in events if hasattr(event, "response")}
    items = {event.item_id for event in events if hasattr(event, "item_id")}
    items |= {event.item.id for event in events if hasattr(event, "item")}
    assert len(ids) == len(items) == 1
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == events[-1].response.output_text


# test_completion.py


@fact("completion: completion")
def _(servers: Servers) -> None:
    body = servers.complete()
    assert body["usage"]["completion_tokens"] == 8
    assert body["choices"][0]["text"]


@fact("completion: completion_stream_vs_non_stream")
def _(servers: Servers) -> None:
    prompt = "I believe the meaning of life is"
    reply = servers.chat.post(
        "/v1/completions", {"prompt": prompt, "max_tokens": 8, "stream": True}
    )
    texts = re.findall(r'"text":"((?:[^"\\]|\\.)*)"', reply.body.decode())
    said = "".join(json.loads(f'"{text}"') for text in texts)
    assert said == servers.complete()["choices"][0]["text"]


@fact("completion: completion_with_openai_library")
def _(servers: Servers) -> None:
    made = servers.chat.openai().completions.create(model="demo", prompt="Hey", max_tokens=8)
    assert made.choices[0].finish_reason in ("stop", "length")
    assert made.system_fingerprint


@fact("completion: completion_stream_with_openai_library")
def _(servers: Servers) -> None:
    client = servers.chat.openai(strict=False)
    stream = client.completions.create(model="demo", prompt="Hey", max_tokens=8, stream=True)
    chunks = list(stream)
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert "".join(chunk.choices[0].text for chunk in chunks)


@fact("completion: completion_stream_with_openai_library_stops")
def _(servers: Servers) -> None:
    whole = servers.complete(max_tokens=12)["choices"][0]["text"]
    stop = whole[4:7]
    body = servers.complete(max_tokens=12, stop=[stop, "nowhere"])
    assert body["choices"][0]["text"] == whole.partition(stop)[0]
    assert body["choices"][0]["finish_reason"] == "stop"


@fact("completion: consistent_result_same_seed")
def _(servers: Servers) -> None:
    more: Any = {"seed": 42, "temperature": 2.0, "top_p": 1, "top_k": 0, "min_p": 0}
    servers.complete(**more)
    assert len({servers.complete(**more)["choices"][0]["text"] for _ in range(4)}) == 1


@fact("completion: different_result_different_seed")
def _(servers: Servers) -> None:
    more: Any = {"temperature": 2.0, "top_p": 1, "top_k": 0, "min_p": 0}
    texts = {servers.complete(seed=seed, **more)["choices"][0]["text"] for seed in range(4)}
    assert len(texts) == 4


@fact("completion: nocache_long_input_prompt")
def _(servers: Servers) -> None:
    prompt = "I believe the meaning of life is" * 500
    assert servers.chat.post("/v1/completions", {"prompt": prompt}).status == 400


@fact("completion: json_prompt_mtm_error_when_not_supported")
def _(servers: Servers) -> None:
    prompt = {"prompt_string": "x", "multimodal_data": "x"}
    assert servers.chat.post("/v1/completions", {"prompt": prompt}).error["param"] == "prompt"


@fact("completion: completion_parallel_slots")
def _(servers: Servers) -> None:
    prompts = [f"Write a book about the number {i}." for i in range(6)]
    alone = [servers.complete(prompt)["choices"][0]["text"] for prompt in prompts]
    found: dict[int, str] = {}

    def ask(i: int) -> None:
        found[i] = servers.complete(prompts[i])["choices"][0]["text"]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(6)] == alone


@fact("completion: n_probs")
def _(servers: Servers) -> None:
    found = servers.complete(logprobs=10, max_tokens=5)["choices"][0]["logprobs"]
    assert len(found["tokens"]) == 5
    # By their texts: tokens that are a part of a character share one.
    assert all(2 <= len(top) <= 10 for top in found["top_logprobs"])
    assert all(logprob <= 0 for logprob in found["token_logprobs"])


@fact("completion: logit_bias")
def _(servers: Servers) -> None:
    first = servers.complete(max_tokens=1)["choices"][0]["text"]
    bias = {str(token): -100 for token in servers.llama.tokenize(first, add_special=False)}
    assert servers.complete(max_tokens=1, logit_bias=bias)["choices"][0]["text"] != first


@fact("completion: cancel_request")
def _(servers: Servers) -> None:
    client = servers.chat.openai()
    with client.chat.completions.create(
        model="demo", messages=[{"role": "user", "content": "Hey"}], stream=True
    ) as stream:
        next(iter(stream))
    assert servers.complete()["choices"]


@fact("completion: completion_prompt_cache")
def _(servers: Servers) -> None:
    if Capability.PREFIX_CACHE in servers.llama.capabilities:
        servers.complete()
        usage = servers.complete()["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] - 1


# test_embedding.py


@fact("embedding: embedding_single")
def _(servers: Servers) -> None:
    (one,) = servers.embed("I believe the meaning of life is")["data"]
    assert math.hypot(*one["embedding"]) == pytest.approx(1, abs=1e-3)


@fact("embedding: embedding_multiple")
def _(servers: Servers) -> None:
    data = servers.embed(["one", "two words", "This is a test", "This is another test"])["data"]
    assert [one["index"] for one in data] == [0, 1, 2, 3]
    assert all(len(one["embedding"]) > 1 for one in data)


@fact("embedding: embedding_invalid_input")
def _(servers: Servers) -> None:
    wrong: list[Any] = [None, "", [], [""], 5, {}, [None], [{"a": 1}], [[]], ["x", 5]]
    for given in wrong:
        reply = servers.embedder.post("/v1/embeddings", {"input": given})
        assert reply.status == 400, given
        assert reply.error["param"].startswith("input")


@fact("embedding: embedding_pooling_mean")
def _(servers: Servers) -> None:
    assert servers.reader.info.pooling == "mean"
    expected = list(servers.reader.embed("hello"))
    assert servers.embed("hello")["data"][0]["embedding"] == pytest.approx(expected)


@fact("embedding: embedding_pooling_mean_multiple")
def _(servers: Servers) -> None:
    texts = ["one", "two words", "three more words"]
    alone = [servers.embed(text)["data"][0]["embedding"] for text in texts]
    for one, vector in zip(servers.embed(texts)["data"], alone, strict=True):
        assert one["embedding"] == pytest.approx(vector, abs=1e-4)


@fact("embedding: embedding_openai_library_single")
def _(servers: Servers) -> None:
    client = servers.embedder.openai(strict=False)
    assert len(client.embeddings.create(model="embedder", input="hello").data[0].embedding) == 32


@fact("embedding: embedding_openai_library_multiple")
def _(servers: Servers) -> None:
    client = servers.embedder.openai(strict=False)
    assert len(client.embeddings.create(model="embedder", input=["a", "b", "c"]).data) == 3


@fact("embedding: embedding_error_prompt_too_long")
def _(servers: Servers) -> None:
    reply = servers.embedder.post("/v1/embeddings", {"input": "This is a test " * 512})
    assert reply.status == 400
    assert reply.error["code"] == "context_length_exceeded"


@fact("embedding: same_prompt_give_same_result")
def _(servers: Servers) -> None:
    data = servers.embed(["hello world"] * 5)["data"]
    for one in data[1:]:
        assert one["embedding"] == pytest.approx(data[0]["embedding"], abs=1e-5)


@fact("embedding: embedding_usage_single")
def _(servers: Servers) -> None:
    usage = servers.embed("hello world")["usage"]
    assert usage["prompt_tokens"] == usage["total_tokens"]
    assert usage["prompt_tokens"] == len(servers.reader.tokenize("hello world"))


@fact("embedding: embedding_usage_multiple")
def _(servers: Servers) -> None:
    one = servers.embed("hello world")["usage"]["prompt_tokens"]
    assert servers.embed(["hello world"] * 2)["usage"]["prompt_tokens"] == 2 * one


@fact("embedding: embedding_openai_library_base64")
def _(servers: Servers) -> None:
    plain = servers.embed("hello")["data"][0]["embedding"]
    coded = servers.embed("hello", encoding_format="base64")["data"][0]["embedding"]
    assert list(struct.unpack(f"<{len(plain)}f", base64.b64decode(coded))) == pytest.approx(plain)


# test_rerank.py

DOCUMENTS = ["a machine", "learning is", "machine learning is a field", "Paris"]


def rank(servers: Servers, **more: Any) -> Reply:
    body = {"query": "Machine learning is", "documents": DOCUMENTS, **more}
    return servers.ranker.post("/v1/rerank", body)


@fact("rerank: rerank")
def _(servers: Servers) -> None:
    results = rank(servers).json["results"]
    scores = [one["relevance_score"] for one in results]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1]
    assert sorted(one["index"] for one in results) == [0, 1, 2, 3]


@fact("rerank: invalid_rerank_req")
def _(servers: Servers) -> None:
    wrong: list[Any] = [None, [], "string", [1, 2, 3], {}, [{"text": 5}]]
    for documents in wrong:
        reply = rank(servers, documents=documents)
        assert reply.status == 400, documents
        assert reply.error["param"].startswith("documents")


@fact("rerank: rerank_usage")
def _(servers: Servers) -> None:
    usage = rank(servers, query="q", documents=["a", "b"]).json["usage"]
    assert usage["prompt_tokens"] == usage["total_tokens"] > 0


@fact("rerank: rerank_top_n")
def _(servers: Servers) -> None:
    for most, found in ((None, 4), (2, 2), (4, 4), (99, 4)):
        assert len(rank(servers, top_n=most).json["results"]) == found


# test_security.py


@fact("security: access_public_endpoint")
def _(servers: Servers) -> None:
    assert servers.locked.ask("GET", "/health").status == 200


@fact("security: access_static_assets_without_api_key")
def _(servers: Servers) -> None:
    for path, kind in (("/", "html"), ("/app.css", "css"), ("/app.js", "javascript")):
        reply = servers.locked.ask("GET", path)
        assert reply.status == 200
        assert f"text/{kind}" in reply.headers["content-type"]


@fact("security: incorrect_api_key")
def _(servers: Servers) -> None:
    for headers in ({}, {"Authorization": "Bearer invalid-key"}):
        reply = servers.locked.ask("POST", "/v1/completions", {"prompt": "x"}, headers)
        assert (reply.status, reply.error["type"]) == (401, "authentication_error")


@fact("security: correct_api_key")
def _(servers: Servers) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    assert servers.locked.ask("POST", "/v1/completions", {"prompt": "x"}, headers).status == 200


@fact("security: correct_api_key_anthropic_header")
def _(servers: Servers) -> None:
    headers = {"X-Api-Key": KEY}
    assert servers.locked.ask("POST", "/v1/completions", {"prompt": "x"}, headers).status == 200
    assert servers.locked.ask("GET", "/v1/models", headers={"X-Api-Key": "no"}).status == 401


@fact("security: openai_library_correct_api_key")
def _(servers: Servers) -> None:
    client = servers.locked.openai(KEY)
    hello: Any = [{"role": "user", "content": "Hey"}]
    assert len(client.chat.completions.create(model="demo", messages=hello).choices) == 1
    with pytest.raises(openai.AuthenticationError):
        servers.locked.openai("no").models.list()


def preflight(servers: Servers, origin: str) -> Reply:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x"}
    return servers.locked.ask("OPTIONS", "/v1/completions", headers={"Origin": origin, **asked})


@fact("security: cors_options")
def _(servers: Servers) -> None:
    reply = preflight(servers, "https://web.example")
    assert reply.headers["access-control-allow-origin"] == "https://web.example"
    assert "POST" in reply.headers["access-control-allow-methods"]


@fact("security: cors_origins_localhost_rejects")
def _(servers: Servers) -> None:
    for origin in ("http://evil.com", "http://notlocalhost", "https://web.example.evil.com"):
        assert "access-control-allow-origin" not in preflight(servers, origin).headers


@fact("security: local_media_file")
def _(servers: Servers) -> None:
    image = {"type": "image_url", "image_url": {"url": "file://etc/passwd"}}
    assert servers.saying([image]).error["param"] == "messages[0].content[0].type"


# test_metrics.py


def number(servers: Servers, name: str, where: str = "chat") -> float:
    address: Address = getattr(servers, where)
    lines = address.ask("GET", "/metrics").body.decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@fact("metrics: metrics_prometheus_format")
def _(servers: Servers) -> None:
    reply = servers.chat.ask("GET", "/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    text = reply.body.decode()
    for name in re.findall(r"^# TYPE (\S+)", text, re.M):
        assert f"# HELP {name} " in text
    assert "# TYPE llama_bridge_completion_tokens_total counter" in text
    assert number(servers, "llama_bridge_requests_at_work") == 0


@fact("metrics: metrics_prompt_processed_and_cached")
def _(servers: Servers) -> None:
    names = [
        f'llama_bridge_prompt_tokens_total{{source="{one}"}}' for one in ("evaluated", "cached")
    ]
    before = [number(servers, name) for name in names]
    usages = [servers.complete("the quick brown fox")["usage"] for _ in range(2)]
    cached = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in usages)
    whole = sum(usage["prompt_tokens"] for usage in usages)
    after = [number(servers, name) for name in names]
    assert [after[0] - before[0], after[1] - before[1]] == [whole - cached, cached]


@fact("metrics: metrics_predicted_total_matches_requests")
def _(servers: Servers) -> None:
    name = "llama_bridge_completion_tokens_total"
    before = number(servers, name)
    made = [servers.complete(max_tokens=n)["usage"]["completion_tokens"] for n in (1, 4, 16)]
    assert number(servers, name) - before == sum(made)


@fact("metrics: metrics_timings_are_finite")
def _(servers: Servers) -> None:
    servers.complete(max_tokens=1)
    for line in servers.chat.ask("GET", "/metrics").body.decode().splitlines():
        if not line.startswith("#"):
            assert math.isfinite(float(line.rpartition(" ")[2]))


@fact("metrics: metrics_slots_idle_after_completion")
def _(servers: Servers) -> None:
    servers.complete()
    assert number(servers, "llama_bridge_requests_waiting") == 0


@fact("metrics: metrics_embedding_prompt_is_counted")
def _(servers: Servers) -> None:
    name = 'llama_bridge_prompt_tokens_total{source="evaluated"}'
    before = number(servers, name, "embedder")
    usage = servers.embed("hello world")["usage"]
    assert number(servers, name, "embedder") - before == usage["prompt_tokens"]


# test_tool_call.py, test_ctx_shift.py

TOOL = {
    "type": "function",
    "function": {
        "name": "test",
        "description": "",
        "parameters": {
            "type": "object",
            "properties": {"success": {"const": True}},
            "required": ["success"],
        },
    },
}


@fact("tool_call: completion_with_required_tool")
def _(servers: Servers) -> None:
    body = servers.say("Write an example", tools=[TOOL], tool_choice="required", max_tokens=200)
    (choice,) = body["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert len(call["id"]) > 0
    assert (call["type"], call["function"]["name"]) == ("function", "test")
    assert json.loads(call["function"]["arguments"])["success"] is True
    assert choice["message"]["content"] in (None, "")


@fact("tool_call: completion_with_required_tool, streamed")
def _(servers: Servers) -> None:
    chunks = servers.chunks("Hey", tools=[TOOL], tool_choice="required", max_tokens=200)
    calls = [
        call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", ())
    ]
    assert calls[0]["id"]
    assert all("id" not in call for call in calls[1:])
    said = "".join(call["function"]["arguments"] for call in calls)
    assert json.loads(said)["success"] is True


@fact("tool_call: completion_without_tool_call")
def _(servers: Servers) -> None:
    for tools, choice in (([], None), ([TOOL], "none")):
        body = servers.say("Say hello", tools=tools, tool_choice=choice, max_tokens=20)
        assert "tool_calls" not in body["choices"][0]["message"]


@fact("ctx_shift: ctx_shift_disabled_short_prompt")
def _(servers: Servers) -> None:
    body = {"prompt": "Hi", "max_tokens": 100_000, "grammar": 'root ::= "a"+'}
    made = servers.small.post("/v1/completions", body).json
    assert made["choices"][0]["finish_reason"] == "length"
    assert 200 < made["usage"]["total_tokens"] <= 257


@fact("ctx_shift: ctx_shift_disabled_long_prompt")
def _(servers: Servers) -> None:
    prompt = "word " * servers.llama.info.n_ctx
    assert servers.chat.post("/v1/completions", {"prompt": prompt}).status == 400


OUT = {
    "basic: server_multiple_addresses": "one address; run two servers or a proxy",
    "basic: server_props": "tells paths of the machine; what a client needs is in /v1/models and /metrics",
    "basic: server_slots": "there are no slots: sequences are the scheduler's, sessions are responses",
    "basic: load_split_model": "the library's: tests/bridge/test_split.py",
    "basic: no_ui": "the page is always there",
    "chat: chat_template": "the model's own template only; the library's tests compare its renderings",
    "chat: chat_template_assistant_prefill": "an answer that is begun by the client is not supported",
    "chat: chat_template_continue_final_message_vllm_compat": "as above: refused as an unknown field",
    "chat: apply_chat_template": "LlamaBridge.apply_chat_template; not over HTTP",
    "chat: chat_completion_with_timings_per_token": "numbers of speed are in /metrics",
    "chat: return_progress": "on_progress of the library; no shape of OpenAI's has a place for it",
    "chat: chat_completions_token_count": "no address of OpenAI's",
    "chat: verbose_debug": "a prompt is not told back",
    "responses: responses_stream_with_llama_telemetry": "as timings_per_token and return_progress",
    "completion: completion_with_tokens_input": "prompts are text: a token id could smuggle in control tokens",
    "completion: completion_unified": "the scheduler's tests",
    "completion: completion_response_fields": "llama.cpp's own address",
    "completion: n_probs_stream": "logprobs come with the last chunk: chat: logprobs_stream",
    "completion: n_probs_post_sampling": "logprobs are the model's own, before sampling",
    "completion: consistent_result_different_batch_size": "the library's: tests/bridge",
    "embedding: embedding_mixed_input": "texts only, no token ids",
    "embedding: embedding_content_text_same_as_string": "OpenAI's input has no parts",
    "embedding: embedding_pooling_none": "one vector for each text",
    "rerank: rerank_tei_format": "one format",
    "security: cors_proxy_only_forwards_explicit_proxy_headers": "there is no proxy",
    "metrics: metrics_disabled": "always there, and needs the key",
    "metrics: metrics_timings_on_prompt_progress": "no progress over HTTP",
    "stream: stream_resume_and_stop_with_slashed_model_name": "a stream is not resumed; a response is kept",
    "tokenize: tokenize_detokenize": "LlamaBridge.tokenize; not over HTTP",
    "template: reasoning": "the library's: tests/chat",
    "slot_save: slot_save_restore": "responses are sessions: tests/serve/test_program.py",
    "sleep: server_sleep": "--idle, with several models: tests/serve/test_program.py",
    "ignore_eos: ignore_eos_populates_logit_bias": "logit_bias does that",
    "infill: infill_without_input_extra": "Prompt.control in the library; not over HTTP",
    "lora: lora_per_request": "--adapter at the start",
    "speculative: all": "another part of the library",
    "router: router_unload_model": "--idle unloads: tests/serve/test_program.py",
    "compat_anthropic: all": "OpenAI's shape only",
    "compat_gcp: all": "OpenAI's shape only",
    "mcp_servers, tools_builtin, proxy: all": "the server runs no tools",
    "vision_api: all": "text only",
}
"""Tests that say nothing about this server, and why."""


def test_there_are_enough_and_each_stands_once() -> None:
    assert len(FACTS) >= 60
    assert not FACTS.keys() & OUT.keys()
    assert all(OUT.values())


@pytest.mark.parametrize("name", FACTS)
def test_a_fact_of_llama_cpps_server(servers: Servers, name: str) -> None:
    FACTS[name](servers)
