"""``llama-bridge embed`` and ``rerank``: vectors and scores for scripts, and what goes wrong in words of the shell."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from llama_bridge import Backend, LlamaBridge
from llama_bridge.testing import FakeBackend
from tests.cli.conftest import Run
from tests.making import embedding_model

Install = Callable[[Sequence[Backend]], None]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return embedding_model(tmp_path_factory.mktemp("bert") / "bert.gguf")


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return embedding_model(tmp_path_factory.mktemp("ranker") / "ranker.gguf", pooling=4)


@pytest.mark.requires_capability("embeddings")
def test_each_text_or_line_is_a_line_of_numbers(run: Run, bert: Path, llama_backend: str) -> None:
    args = ("embed", "-m", bert, "--backend", llama_backend)
    result = run(*args, "one", "two words")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = [[float(word) for word in line.split()] for line in result.stdout.splitlines()]
    with LlamaBridge(bert, backend=llama_backend) as llama:
        expected = llama.embed(["one", "two words"]).tolist()
    for row, each in zip(rows, expected, strict=True):
        assert row == pytest.approx(each, abs=1e-4)
    assert run(*args, given="one\ntwo words\n").stdout == result.stdout
    record = json.loads(run(*args, "--json", "--raw", "one").stdout)
    assert (record["n_embd"], record["pooling"], record["backend"]) == (32, "mean", llama_backend)
    assert math.hypot(*record["embeddings"][0]) != pytest.approx(1, abs=1e-3)


def test_only_a_line_break_ends_a_text(run: Run) -> None:
    args = ("embed", "-m", "demo", "--pooling", "mean", "--json")
    for given, n in (("a\u2028b\x0cc\x85d\n\ne", 3), ("\n", 1), ("", 0)):
        assert len(json.loads(run(*args, given=given).stdout)["embeddings"]) == n


@pytest.mark.requires_capability("rerank")
def test_documents_come_best_first(run: Run, ranker: Path, llama_backend: str) -> None:
    args = ("rerank", "-m", ranker, "--backend", llama_backend, "what?")
    result = run(*args, "a\tb", "c d", "e")
    assert (result.exit_code, result.stderr) == (0, "")
    scores = [float(line.split("\t")[0]) for line in result.stdout.splitlines()]
    assert scores == sorted(scores, reverse=True)
    record = json.loads(run(*args, "--json", "a\tb", "c d", "e").stdout)
    assert [each["score"] for each in record["results"]] == pytest.approx(scores, rel=1e-4)
    assert {each["index"]: each["document"] for each in record["results"]} == {
        0: "a\tb",
        1: "c d",
        2: "e",
    }


@pytest.mark.requires_capability("embeddings")
def test_what_a_model_cannot_is_told_with_the_way_out(
    run: Run, bert: Path, ranker: Path, llama_backend: str
) -> None:
    at = ("--backend", llama_backend)
    refused = run("embed", "-m", "demo", *at, "one")
    assert refused.exit_code == 1
    assert "names no pooling" in refused.stderr
    assert "--pooling mean or --pooling last" in refused.stderr
    assert run("embed", "-m", "demo", "--pooling", "mean", *at, "one").exit_code == 0
    assert "use llama-bridge rerank" in run("embed", "-m", ranker, *at, "one").stderr
    assert "not a reranker" in run("rerank", "-m", bert, *at, "one", "two").stderr
    assert "use llama-bridge embed" in run("run", "-m", bert, *at, "one").stderr
    long = run("embed", "-m", bert, *at, "short", "long " * 200)
    assert "text[1] has" in long.stderr
    assert "give --truncate" in long.stderr
    assert run("embed", "-m", bert, "--truncate", *at, "short", "long " * 200).exit_code == 0


def test_no_text_is_a_usage_error(run: Run) -> None:
    assert run("embed", "one").exit_code == 2  # no model
    assert json.loads(run("embed", "-m", "demo", "--backend", "none", "--json", "a").stdout)[
        "error"
    ]


def test_input_that_is_no_text_is_told(run: Run, installed: Install) -> None:
    installed([FakeBackend()])
    result = run("embed", "-m", "demo", "--backend", "fake", given=b"caf\xe9\n")
    assert (result.exit_code, "UTF-8" in result.stderr) == (1, True)
