"""``llama-bridge info`` and ``session info``: what is in a file, told without an engine."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import LlamaBridge
from llama_bridge.models.gguf import ArrayRef, GgufHeader, Value
from llama_bridge.models.memory import kv_bytes_per_token
from llama_bridge.models.source import open_model
from llama_bridge.testing import FakeLlama
from tests.cli.conftest import Run
from tests.cli.screens import SECONDS
from tests.models.headers import gguf, strings, text, u32
from tools.random_model import TINY, write_model


def test_the_demo_model(run: Run) -> None:
    facts = json.loads(run("info", "demo", "--json").stdout)
    header = open_model("demo").header
    assert facts["name"] == "llama-bridge demo"
    assert facts["architecture"] == "llama"
    assert facts["parameters"] == header.n_parameters > 1_000_000
    assert facts["chat_template"] is True
    assert facts["context_length"] == 1024
    assert sum(facts["quantisation"].values()) == pytest.approx(1)
    shown = run("info", "demo").stdout
    assert f"{facts['parameters']:,}" in shown
    assert "yes: a prompt is a user turn" in shown


def test_a_vocabulary_without_weights_says_that_it_has_none(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "vocabulary-Q4_K_M.gguf"
    path.write_bytes(
        gguf(("llama.context_length", u32(64)), ("tokenizer.ggml.tokens", strings([b"a"])))
    )
    shown = " ".join(run("info", path).stdout.split())
    assert "quantisation none: it has no weights context length 64 tokens" in shown
    assert json.loads(run("info", path, "--json").stdout)["quantisation"] == {}


def test_memory_by_length_of_context(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    shape: dict[str, Any] = {"vocab": "llama-bpe", "n_layer": 32, "n_embd": 4096, "n_head": 32}
    shape |= {"n_head_kv": 8, "n_ff": 14336, "quantization": "q4_k", "n_ctx_train": 20_000}
    write_model(path, hollow=True, **shape)
    lines = json.loads(run("info", path, "--json").stdout)["memory"]
    assert [line["n_ctx"] for line in lines] == [2048, 4096, 8192, 16_384, 20_000]
    assert lines[0]["kv_cache"] == 2048 * 32 * 8 * 128 * 2 * 2
    for line in lines:
        assert line["weights"] + line["kv_cache"] < line["wasm"] < line["native"]
        assert line["fits_wasm"] is False
    shown = run("info", path).stdout
    assert "all, native" in shown
    assert " ".join(shown.split()).count("20,000 4.52 GB 2.65 GB") == 1
    assert "wasm at most 4.29 GB" in shown


def test_what_fits_and_what_would(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    shape: dict[str, Any] = {"vocab": "llama-spm", "n_layer": 32, "n_embd": 3072, "n_head": 24}
    shape |= {"n_head_kv": 8, "n_ff": 8192, "quantization": "q4_k", "n_ctx_train": 131_072}
    write_model(path, hollow=True, **shape)
    facts = json.loads(run("info", path, "--json").stdout)
    wasm = facts["fits"]["wasm"]
    assert 4096 < wasm["auto"] <= wasm["n_ctx"] < wasm["n_ctx_q8_0"] < 131_072
    assert facts["machine"]["total"] > 0
    for line in facts["memory"]:
        assert line["fits_wasm"] == (line["n_ctx"] <= wasm["n_ctx"])
        assert line["wasm"] == line["weights"] + line["kv_cache"] + line["work_wasm"]
    shown = run("info", path).stdout
    assert (
        f"up to {wasm['n_ctx']:,} tokens of context fit, up to {wasm['n_ctx_q8_0']:,} with a KV cache of q8_0; "
        f"--n-ctx auto takes {wasm['auto']:,}" in shown
    )
    assert shown.count("\n") <= 28, "one screen"


def test_a_model_without_hope_is_told_so(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    shape: dict[str, Any] = {"vocab": "llama-spm", "n_layer": 400, "n_embd": 8192, "n_ff": 28672}
    write_model(path, hollow=True, quantization="q8_0", **shape)
    assert json.loads(run("info", path, "--json").stdout)["fits"]["wasm"]["n_ctx"] == 0
    assert "on wasm does not fit: take a smaller model" in " ".join(
        run("info", path).stdout.split()
    )


@pytest.mark.parametrize(
    ("known", "shown"),
    [
        ({}, "the file names none"),
        ({"general.license": "apache-2.0"}, "apache-2.0"),
        (
            {"general.license": "other", "general.license.name": "mine"}
            | {"general.license.link": "https://example.org/l\x1b[2J"},
            "other (mine, https://example.org/l\ufffd[2J)",
        ),
        ({"general.license": "x" * 5000}, "x" * 200 + "..."),
    ],
)
def test_its_licence(run: Run, tmp_path: Path, known: dict[str, str], shown: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf(*((key, text(value)) for key, value in known.items())))
    lines = run("info", path).stdout.splitlines()
    assert next(line for line in lines if line.startswith("licence")).split(maxsplit=1)[1] == shown
    licence = json.loads(run("info", path, "--json").stdout)["license"]
    assert list((licence or {}).values()) == list(known.values())


def test_where_memory_is_not_known_there_is_no_table(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf(("llama.context_length", u32(64)), ("llama.block_count", u32(2))))
    assert json.loads(run("info", path, "--json").stdout)["memory"] == []
    assert "all, native" not in run("info", path).stdout


def test_it_loads_no_engine() -> None:
    code = (
        "import sys; from llama_bridge.cli.app import app; app(['info', 'demo'], standalone_mode=False)\n"
        "assert not {'llama_cpp', 'llama_bridge_wasm.engine'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], timeout=SECONDS, check=True, capture_output=True)


@pytest.mark.requires_capability("session_persistence")
@pytest.mark.parametrize(
    "form",
    [
        {"architecture": "llama", "n_head_kv": 2, "n_layer": 3},
        {"architecture": "qwen2", "tied": True},
    ],
    ids=["grouped heads", "qwen2"],
)
def test_kv_bytes_per_token_are_those_that_a_longer_session_takes(
    llama_backend: str, tmp_path: Path, form: dict[str, Any]
) -> None:
    model = tmp_path / "model.gguf"
    parameters: dict[str, Any] = TINY | {"n_head": 4} | form
    write_model(model, **parameters)
    sizes = []
    with LlamaBridge(model, backend=llama_backend) as llama:
        for words in (10, 110):
            llama.generate("word " * words, chat=False)
            info = llama.session_save(tmp_path / "s")
            manifest = json.loads(_manifest(tmp_path / "s"))
            assert manifest["n_tokens"] == info.n_tokens
            sizes.append((info.n_tokens, info.n_bytes - len(_manifest(tmp_path / "s"))))
    (few, small), (many, large) = sizes
    counted = kv_bytes_per_token(open_model(model).header)
    assert counted is not None
    # Beside the cells llama.cpp stores a position and a sequence for each token, the ledger its id.
    assert 0 <= (large - small) / (many - few) - counted <= 32


def _manifest(path: Path) -> bytes:
    data = path.read_bytes()
    n_state, n_manifest = struct.unpack_from("<QQ", data, len(data) - 32)
    return data[n_state : n_state + n_manifest]


def _header(arch: str, **values: Value) -> GgufHeader:
    metadata = {f"{arch}.{key.replace('__', '.')}": value for key, value in values.items()}
    metadata["general.architecture"] = arch
    return GgufHeader(3, metadata, (), 0, 0, (0, 0), (), (0, 0))


@pytest.mark.parametrize(
    ("arch", "values", "expected"),
    [
        (
            "llama",
            {"block_count": 2, "embedding_length": 64, "attention__head_count": 4},
            2 * 2 * 64 * 2,
        ),
        (
            "gemma3",
            {"block_count": 3, "embedding_length": 64, "attention__head_count": 4}
            | {"attention__head_count_kv": 1, "attention__key_length": 256}
            | {"attention__value_length": 128},
            3 * (256 + 128) * 2,
        ),
        (
            "lfm2",
            {"block_count": 4, "embedding_length": 64, "attention__head_count": 4}
            | {"attention__head_count_kv": [0, 2, 0, 2]},
            4 * (16 + 16) * 2,
        ),
        ("mamba", {"block_count": 4, "embedding_length": 64}, None),
        (
            "deepseek2",
            {"block_count": 2, "embedding_length": 64, "attention__head_count": 4}
            | {"attention__kv_lora_rank": 32},
            None,
        ),
        ("llama", {}, None),
        ("llama", {"block_count": 2, "attention__head_count": 0}, None),
        ("llama", {"block_count": 2, "attention__head_count": ArrayRef(4, 100, 0, 400)}, None),
        ("llama", {"block_count": 2, "attention__head_count": "four"}, None),
    ],
)
def test_kv_bytes_per_token_of_other_shapes(
    arch: str, values: dict[str, Value], expected: int | None
) -> None:
    assert kv_bytes_per_token(_header(arch, **values)) == expected


def test_a_saved_session(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "talk.session"
    with FakeLlama("Nice to meet you.\nReally.") as llama:
        for i in range(5):
            llama.generate_continue(f"question {i}")
        info = llama.session_save(file)
    shown = run("session", "info", file).stdout
    assert f"{info.n_tokens:,} of a context of 65536" in shown
    assert info.created in shown
    assert "fake (fake)" in shown
    assert "... 4 earlier messages" in shown
    assert "user: question 4\nassistant: Nice to meet you. Really.\n" in shown
    assert "question 1" not in shown
    record = json.loads(run("session", "info", file, "--json").stdout)
    assert record["n_tokens"] == info.n_tokens
    assert record["n_bytes"] == info.n_bytes == file.stat().st_size
    assert len(record["messages"]) == 10
    assert record["model"]["weights"]


@pytest.mark.parametrize("at", [0.0, 0.5, 0.999])
def test_a_damaged_session_is_refused(run: Run, tmp_path: Path, at: float) -> None:
    file = tmp_path / "talk.session"
    with FakeLlama() as llama:
        llama.generate("hello")
        llama.session_save(file)
    data = bytearray(file.read_bytes())
    data[int(at * len(data))] ^= 1
    file.write_bytes(data)
    result = run("session", "info", file)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {file}: ")
    assert result.stdout == ""
