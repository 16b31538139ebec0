"""What people get from ``embed`` and ``rerank``, on each backend and the fake."""

from __future__ import annotations

import copy
import math
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import (
    Cancelled,
    Capability,
    ClosedError,
    ContextOverflow,
    EngineError,
    InvalidInput,
    InvalidModel,
    LlamaBridge,
    Progress,
    Ranked,
    UnsupportedCapability,
    Vectors,
)
from llama_bridge.testing import FakeLlama
from tests.ledger import assert_ledger_rule, engine_of
from tests.making import embedding_model

needs = pytest.mark.requires_capability
NEAR = 1e-3
"""Numbers of a text alone and in a batch, in vectors of length 1: kernels for one row and for many round differently."""
TEXTS = ["My name is Ada.", "x", "What is a KV cache? " * 2, "My name is Ada.", "Oslo"]


@pytest.fixture
def encoder(llama_backend: str, tmp_path: Path) -> Iterator[LlamaBridge]:
    with LlamaBridge(embedding_model(tmp_path / "bert.gguf"), backend=llama_backend) as llama:
        yield llama


@pytest.fixture
def reranker(llama_backend: str, tmp_path: Path) -> Iterator[LlamaBridge]:
    path = embedding_model(tmp_path / "reranker.gguf", pooling=4)
    with LlamaBridge(path, backend=llama_backend) as llama:
        yield llama


def cosine(one: memoryview[float], other: memoryview[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


@needs("embeddings")
def test_a_text_is_one_vector_and_a_list_is_several_in_its_order(encoder: LlamaBridge) -> None:
    one = encoder.embed(TEXTS[0])
    assert (one.format, one.shape, one.readonly) == ("f", (encoder.info.n_embd,), True)
    many = encoder.embed(TEXTS)
    assert isinstance(many, Vectors)
    assert many.shape == (5, encoder.info.n_embd)
    for text, vector in zip(TEXTS, many, strict=True):
        assert list(vector) == pytest.approx(list(encoder.embed(text)), abs=NEAR)
    assert cosine(many[0], many[3]) == pytest.approx(1, abs=1e-5)
    assert cosine(many[0], many[4]) < 0.999


@needs("embeddings")
def test_normalising_changes_the_length_alone(encoder: LlamaBridge) -> None:
    scaled, raw = encoder.embed(TEXTS), encoder.embed(TEXTS, normalize=False)
    for one, other in zip(scaled, raw, strict=True):
        length = math.hypot(*other)
        assert math.hypot(*one) == pytest.approx(1, abs=1e-6)
        assert abs(length - 1) > 0.01
        assert list(one) == pytest.approx([value / length for value in other], abs=1e-6)


@needs("embeddings")
def test_numpy_reads_it_without_a_copy(encoder: LlamaBridge) -> None:
    numpy = pytest.importorskip("numpy")
    many, one = encoder.embed(TEXTS), encoder.embed(TEXTS[0])
    array = numpy.asarray(many)
    assert (array.shape, array.dtype) == (many.shape, numpy.float32)
    assert array.tolist() == many.tolist()
    assert numpy.shares_memory(array, numpy.asarray(many[2]))
    assert numpy.shares_memory(numpy.asarray(one), numpy.asarray(one))
    assert not array.flags.writeable


@needs("embeddings")
def test_no_text_and_a_text_without_words(encoder: LlamaBridge) -> None:
    assert encoder.embed([]).shape == (0, encoder.info.n_embd)
    if encoder.tokenize(""):  # what the model wants around a text
        assert math.hypot(*encoder.embed("")) == pytest.approx(1)
    else:
        with pytest.raises(InvalidInput, match="text has no tokens"):
            encoder.embed("")
        with pytest.raises(InvalidInput, match=r"text\[1\] has no tokens"):
            encoder.embed(["a", ""])


@needs("embeddings")
def test_a_text_that_is_too_long_is_named_before_work_or_cut(encoder: LlamaBridge) -> None:
    long = "What is a KV cache? " * 40
    told: list[Progress] = []
    with pytest.raises(ContextOverflow, match=r"text\[1\] has .* at most 64 .*truncate") as caught:
        encoder.embed(["short", long], on_progress=told.append)
    assert (caught.value.text, caught.value.n_ctx, told) == ("text[1]", encoder.info.n_ctx, [])
    assert caught.value.needed == len(encoder.tokenize(long))
    with pytest.raises(ContextOverflow, match="text has"):
        encoder.embed(long)
    cut = encoder.embed(["short", long], truncate=True)
    tokens = encoder.tokenize(long)[: encoder.info.n_ctx]
    expected = engine_of(encoder).embed([tokens])
    assert expected is not None
    (row,) = Vectors(expected.cast("B"), encoder.info.n_embd).normalized()
    assert list(cut[1]) == pytest.approx(list(row), abs=NEAR)
    assert list(cut[0]) == pytest.approx(list(encoder.embed("short")), abs=NEAR)


@needs("embeddings")
def test_what_a_text_spells_is_no_control_token(encoder: LlamaBridge) -> None:
    end = engine_of(encoder).token_bytes(min(encoder.info.end_of_generation), special=True).decode()
    tokens = encoder.tokenize(f"a{end}b")
    assert min(encoder.info.end_of_generation) not in tokens[1:-1]
    found = engine_of(encoder).embed([tokens])
    assert found is not None
    (row,) = Vectors(found.cast("B"), encoder.info.n_embd)
    assert list(encoder.embed(f"a{end}b", normalize=False)) == pytest.approx(list(row), abs=NEAR)


@needs("embeddings")
def test_a_model_that_only_embeds_refuses_to_generate_before_work(encoder: LlamaBridge) -> None:
    assert Capability.EMBEDDINGS in encoder.capabilities
    assert not encoder.capabilities & (Capability.GENERATE | Capability.KV_CONTINUATION)
    calls: list[Callable[[], object]] = [
        lambda: encoder.generate("Hello"),
        lambda: encoder.generate_stream("Hello"),
        lambda: encoder.generate_continue("Hello"),
        lambda: encoder.session().generate("Hello", chat=False),
        lambda: encoder.regenerate(),
        lambda: encoder.requires("generate"),
    ]
    for call in calls:
        with pytest.raises(UnsupportedCapability, match=r"not made to generate.*call embed\(\)"):
            call()
    with pytest.raises(UnsupportedCapability, match="not a reranker"):
        encoder.rerank("a", ["b"])
    with pytest.raises(UnsupportedCapability):
        encoder.session_save("x")
    encoder.session_reset()
    assert encoder.session().tokens == ()
    assert len(encoder.embed("still here")) == encoder.info.n_embd


@needs("embeddings")
@pytest.mark.not_remote("pooling is a setting of the server")
def test_a_model_that_generates_needs_a_pooling_to_embed(llama_backend: str) -> None:
    with LlamaBridge("demo", backend=llama_backend, n_ctx=512) as llama:
        first = llama.generate("Hello! My name is Zorblax.", temperature=0)
        with pytest.raises(UnsupportedCapability, match=r"names no pooling.*pooling='mean'"):
            llama.embed("one")
        assert llama.session().tokens
        llama.load_model("demo", pooling="mean")
        assert llama.generate("Hello! My name is Zorblax.", temperature=0).text == first.text
        held = llama.session().tokens
        assert math.hypot(*llama.embed("one")) == pytest.approx(1)
        assert llama.session().tokens == held
        assert_ledger_rule(llama)


@needs("embeddings")
def test_the_conversation_goes_on_as_if_nothing_had_been_embedded(llama_backend: str) -> None:
    answers: list[list[str]] = []
    for embeds in (False, True):
        with LlamaBridge("demo", backend=llama_backend, n_ctx=512, pooling="mean") as llama:
            said = [llama.generate("Hello! My name is Zorblax.", temperature=0).text]
            if embeds:
                llama.embed(TEXTS)
            with llama.generate_stream("What is the capital of France?", temperature=0) as stream:
                said += [next(stream)]
                if embeds:
                    llama.embed("while a stream is half read")
                said += list(stream)
            said.append(llama.generate("And now?", temperature=0).text)
            answers.append(said)
    assert answers[0] == answers[1]


@needs("embeddings")
def test_a_cancel_ends_it_and_the_next_call_works(encoder: LlamaBridge) -> None:
    def cancel(step: Progress) -> None:
        if step.done:
            encoder.cancel()

    many = [f"text {i}" for i in range(300)]
    with pytest.raises(Cancelled, match="before all"):
        encoder.embed(many, on_progress=cancel)
    timer = threading.Timer(0.05, encoder.cancel)
    timer.start()

    def embed_for_long() -> None:
        for _ in range(1000):
            encoder.embed(many)

    with pytest.raises(Cancelled):
        embed_for_long()
    timer.join()
    assert len(encoder.embed(many)) == 300


@needs("embeddings")
def test_progress_counts_texts_and_may_end_it(encoder: LlamaBridge) -> None:
    told: list[Progress] = []
    encoder.embed([f"text {i}" for i in range(150)], on_progress=told.append)
    assert {(step.stage, step.unit, step.total) for step in told} == {("embed", "texts", 150)}
    done = [step.done for step in told]
    assert done == sorted(done)
    assert (done[0], done[-1], len(done) > 3) == (0, 150, True)

    def end(step: Progress) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        encoder.embed(TEXTS, on_progress=end)
    inside: list[Exception] = []

    def ask(step: Progress) -> None:
        try:
            encoder.embed("inside")
        except InvalidInput as error:
            inside.append(error)

    assert len(encoder.embed(TEXTS, on_progress=ask)) == 5
    assert all("busy" in str(error) for error in inside)


@needs("embeddings")
@pytest.mark.slow
def test_ten_thousand_texts_of_many_lengths_come_back_in_order(encoder: LlamaBridge) -> None:
    texts = [f"{i} " + "word " * (i * i % 11) for i in range(10_000)]
    vectors = encoder.embed(texts)
    assert len(vectors) == 10_000
    for i in (0, 1, 17, 5000, 9998, 9999):
        assert list(vectors[i]) == pytest.approx(list(encoder.embed(texts[i])), abs=NEAR)


@needs("rerank")
def test_documents_are_ranked_best_first(reranker: LlamaBridge) -> None:
    documents = ["Paris is in France.", "x", "The KV cache", "Paris is in France.", ""]
    ranked = reranker.rerank("Where is Paris?", documents)
    assert sorted(each.index for each in ranked) == list(range(5))
    assert [score for _, score in ranked] == sorted((each[1] for each in ranked), reverse=True)
    places = {each.index: place for place, each in enumerate(ranked)}
    scores = dict(ranked)
    assert scores[0] == pytest.approx(scores[3], abs=NEAR)
    assert scores[0] != scores[3] or places[0] < places[3]
    alone = [reranker.rerank("Where is Paris?", [document])[0].score for document in documents]
    assert [scores[i] for i in range(5)] == pytest.approx(alone, abs=5e-3)
    assert reranker.rerank("Where is Paris?", []) == []
    with pytest.raises(UnsupportedCapability, match=r"is a reranker: call rerank\(\)"):
        reranker.embed("a")


@needs("rerank")
def test_a_document_that_is_too_long_is_named_or_cut(reranker: LlamaBridge) -> None:
    documents = ["short", "Paris is in France. " * 40]
    with pytest.raises(ContextOverflow, match=r"documents\[1\] with the query has .*truncate"):
        reranker.rerank("Where?", documents)
    cut = reranker.rerank("Where?", documents, truncate=True)
    assert [score for _, score in reranker.rerank("Where?", documents[:1])] == pytest.approx(
        [score for index, score in cut if index == 0], abs=1e-3
    )
    with pytest.raises(ContextOverflow, match="query alone has"):
        reranker.rerank("Paris is in France. " * 40, ["x"], truncate=True)


@needs("embeddings")
def test_a_head_or_a_pooling_that_does_not_fit_is_told(llama_backend: str, tmp_path: Path) -> None:
    plain = embedding_model(tmp_path / "plain.gguf", pooling=None)
    with LlamaBridge(plain, backend=llama_backend) as llama:
        with pytest.raises(UnsupportedCapability, match=r"names no pooling.*pooling='mean'"):
            llama.embed("a")
        with pytest.raises(UnsupportedCapability):
            llama.generate("a")
        with pytest.raises(InvalidInput, match=r"pooling='rank'.*classifier head"):
            llama.load_model(plain, pooling="rank")
        llama.load_model(plain, pooling="cls")
        assert len(llama.embed("a")) == llama.info.n_embd
    with pytest.raises(InvalidModel, match="pooling_type is 9"):
        LlamaBridge(embedding_model(tmp_path / "9.gguf", pooling=9), backend=llama_backend)


@needs("embeddings")
def test_after_close_it_says_so(encoder: LlamaBridge) -> None:
    encoder.close()
    with pytest.raises(ClosedError):
        encoder.embed("a")
    with pytest.raises(ClosedError):
        encoder.rerank("a", ["b"])


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("text", {"text": None}),
    ("text", {"text": 5}),
    ("text", {"text": b"bytes"}),
    ("text", {"text": {"a", "b"}}),
    ("text", {"text": "\ud800"}),
    (r"text\[1\]", {"text": ["a", None]}),
    (r"text\[0\]", {"text": [["a"]]}),
    (r"text\[2\]", {"text": ["a", "b", "\ud800"]}),
    ("normalize", {"text": "a", "normalize": 1}),
    ("truncate", {"text": "a", "truncate": None}),
    ("on_progress", {"text": "a", "on_progress": 5}),
]


@pytest.mark.parametrize(("named", "given"), WRONG)
def test_a_wrong_argument_is_named(named: str, given: dict[str, Any]) -> None:
    with FakeLlama() as llama, pytest.raises(InvalidInput, match=named):
        llama.embed(**given)
    rest = {key: value for key, value in given.items() if key not in ("text", "normalize")}
    if "normalize" not in given:
        ask = {"query": "a", "documents": given["text"]} | rest
        if isinstance(given["text"], str) and rest == {}:
            ask = {"query": given["text"], "documents": ["a"]}
        with FakeLlama(pooling="rank") as llama, pytest.raises(InvalidInput):
            llama.rerank(**ask)


def test_the_fake_finds_texts_that_share_words() -> None:
    with FakeLlama() as llama:
        query, *found = llama.embed(["red apples", "apples are red", "blue sky", ""])
        assert cosine(query, found[0]) > cosine(query, found[1]) + 0.3
        assert llama.embed("red apples") == query
        with pytest.raises(UnsupportedCapability):
            llama.rerank("a", ["b"])
    with FakeLlama(pooling="rank") as llama:
        ranked = llama.rerank("red apples", ["blue sky", "red apples", "apples"])
        assert [each.index for each in ranked] == [1, 2, 0]
        assert [each.score for each in ranked] == pytest.approx([1, 0.5, 0], abs=1e-5)
        assert isinstance(ranked[0], Ranked)
    with FakeLlama(pooling="none") as llama, pytest.raises(UnsupportedCapability, match="pooling"):
        llama.embed("a")
    with FakeLlama(lacks=("embeddings", "rerank")) as llama, pytest.raises(UnsupportedCapability):
        llama.embed("a")


def test_a_runtime_that_fails_says_why() -> None:
    with FakeLlama() as llama:
        engine = engine_of(llama)

        def fail(sequences: object) -> None:
            raise EngineError("no")

        engine.embed = fail  # type: ignore[method-assign]
        with pytest.raises(EngineError, match="no"):
            llama.embed("a")
        assert llama.generate("hello").text


def test_vectors_are_a_sequence_that_does_not_change() -> None:
    with FakeLlama() as llama:
        vectors = llama.embed(["one two", "two", "three"])
    assert [list(row) for row in vectors] == vectors.tolist()
    assert list(vectors[-1]) == vectors.tolist()[2]
    assert vectors[1:] == Vectors(b"".join(map(bytes, vectors))[len(bytes(vectors[0])) :], 256)
    assert vectors[::-1][0] == vectors[2]
    assert (vectors.view.shape, vectors.view.format) == ((3, 256), "f")
    assert Vectors(b"", 5).view.nbytes == 0
    assert repr(vectors) == "<Vectors: 3 of 256 float32 numbers>"
    for same in (copy.copy(vectors), copy.deepcopy(vectors), pickle.loads(pickle.dumps(vectors))):
        assert same == vectors
        assert hash(same) == hash(vectors)
    assert vectors != vectors[:2]
    assert vectors != vectors.tolist()
    with pytest.raises(IndexError):
        _ = vectors[3]
    with pytest.raises(TypeError):
        vectors[0][0] = 1.0
    with pytest.raises(InvalidInput, match="5 bytes"):
        Vectors(b"12345", 1)
    assert Vectors(bytes(8), 2).normalized().tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("data", "n_embd"), [(8, 2), (None, 1), ("abcd", 1), (bytes(8), "2"), (bytes(8), 2.0), (b"", 0)]
)
def test_vectors_are_made_of_bytes_alone(data: Any, n_embd: Any) -> None:
    """The number 8 gave eight bytes of zeros."""
    with pytest.raises(InvalidInput):
        Vectors(data, n_embd)
