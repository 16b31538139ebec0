"""``/v1/completions``, ``/v1/embeddings`` and ``/v1/rerank``, judged by the official client."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from llama_bridge import LlamaBridge
from llama_bridge.serve import app
from tests.making import embedding_model

from .serving import Address, serving

PROMPT = "Nice to meet"


def test_a_text_goes_on(server: Address, demo: LlamaBridge) -> None:
    client = server.openai()
    expected = demo.generate(PROMPT, chat=False, max_tokens=8, temperature=0)
    made = client.completions.create(model="demo", prompt=PROMPT, max_tokens=8)
    assert made.choices[0].text == expected.text
    assert made.choices[0].finish_reason == expected.finish_reason
    echoed = client.completions.create(model="demo", prompt=PROMPT, max_tokens=8, echo=True)
    assert echoed.choices[0].text == PROMPT + expected.text
    chunks = list(
        server.openai(strict=False).completions.create(
            model="demo",
            prompt=PROMPT,
            max_tokens=8,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == expected.text
    assert chunks[-2].choices[0].finish_reason == expected.finish_reason
    assert chunks[-1].usage is not None
    assert made.usage is not None
    assert chunks[-1].usage.total_tokens == made.usage.total_tokens


def test_several_prompts_have_several_answers(server: Address, demo: LlamaBridge) -> None:
    prompts = [PROMPT, "My name is"]
    made = server.openai().completions.create(model="demo", prompt=prompts, n=2, max_tokens=4)
    texts = [choice.text for choice in sorted(made.choices, key=lambda one: one.index)]
    expected = [
        demo.generate(prompt, chat=False, max_tokens=4, temperature=0) for prompt in prompts
    ]
    assert texts == [expected[0].text] * 2 + [expected[1].text] * 2
    assert made.usage is not None
    assert made.usage.prompt_tokens == sum(one.usage.prompt_tokens for one in expected)
    assert made.usage.completion_tokens == 2 * sum(one.usage.completion_tokens for one in expected)


def test_log_probabilities_have_their_old_shape(server: Address) -> None:
    made = server.openai().completions.create(model="demo", prompt=PROMPT, max_tokens=4, logprobs=2)
    found = made.choices[0].logprobs
    assert found is not None
    assert found.tokens is not None
    assert found.top_logprobs is not None
    assert found.token_logprobs is not None
    assert "".join(found.tokens).startswith(made.choices[0].text)
    for token, logprob, top in zip(
        found.tokens, found.token_logprobs, found.top_logprobs, strict=True
    ):
        assert top[token] == logprob == max(top.values()) <= 0
        assert len(top) == 2


def test_a_model_that_cannot_is_told_before_work(server: Address) -> None:
    client = server.openai()
    with pytest.raises(openai.BadRequestError, match="embeddings is not supported"):
        client.embeddings.create(model="demo", input="x")
    reply = server.post("/v1/rerank", {"query": "x", "documents": ["y"]})
    assert reply.status == 400
    assert reply.error["code"] == "unsupported_capability"


@pytest.fixture(scope="module", params=["mean", "rank"])
def pooling(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def reader(
    llama_backend: str, pooling: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LlamaBridge]:
    path: Path = tmp_path_factory.mktemp("models") / "reader.gguf"
    embedding_model(path, pooling=1 if pooling == "mean" else 4)
    with LlamaBridge(path, backend=llama_backend) as llama:
        yield llama


def test_texts_become_vectors_or_an_order(reader: LlamaBridge, pooling: str) -> None:
    with serving(app(reader)) as address:
        if pooling == "mean":
            vectors(address, reader)
        else:
            order(address, reader)


def vectors(address: Address, reader: LlamaBridge) -> None:
    client = address.openai()
    texts = ["one", "two words", "and three more"]
    expected = reader.embed(texts).tolist()
    asked: Any = {"model": "reader", "input": texts}
    made = client.embeddings.create(**asked, encoding_format="float")
    relaxed = address.openai(strict=False).embeddings.create(**asked)  # as base64
    for one_way in (made, relaxed):
        made = one_way
        assert [one.index for one in made.data] == [0, 1, 2]
        for one, vector in zip(made.data, expected, strict=True):
            assert one.embedding == pytest.approx(vector, abs=1e-6)
    assert made.usage.prompt_tokens == sum(len(reader.tokenize(text)) for text in texts)
    raw = address.post("/v1/embeddings", asked | {"encoding_format": "base64"}).json
    data = base64.b64decode(raw["data"][0]["embedding"])
    assert list(struct.unpack(f"<{len(data) // 4}f", data)) == expected[0]
    assert client.embeddings.create(
        model="reader", input="one", dimensions=32, encoding_format="float"
    ).data
    for wrong, why in (
        ({"dimensions": 5}, "have 32"),
        ({"input": ["", "x"]}, "not empty"),
        ({"input": [[1, 2]]}, "no token ids"),
        ({"input": "word " * 500}, "tokens"),
    ):
        with pytest.raises(openai.BadRequestError, match=why):
            client.embeddings.create(**asked | wrong)


def order(address: Address, reader: LlamaBridge) -> None:
    documents = ["a b", "c", "d e f"]
    expected = reader.rerank("what?", documents)
    body = {"model": "reader", "query": "what?", "documents": documents}
    made = address.post("/v1/rerank", body).json
    found = [(one["index"], one["relevance_score"]) for one in made["results"]]
    assert found == [tuple(one) for one in expected]
    assert made["usage"]["prompt_tokens"] > 0
    few = address.post("/v1/rerank", body | {"top_n": 1, "return_documents": True}).json["results"]
    (best,) = few
    assert best["document"] == {"text": documents[best["index"]]}
    objects = [{"text": text} for text in documents]
    assert (
        address.post("/v1/rerank", body | {"documents": objects}).json["results"]
        == (made["results"])
    )
