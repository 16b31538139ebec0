"""``llama-bridge session verify``: every field, the verdict, the way out, the exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llama_bridge import Capability, LlamaBridge, ModelParams, registry
from tests.cli.conftest import Run
from tests.forging import forge, layers
from tests.ledger import GREEDY

persistent = pytest.mark.requires_capability("session_persistence")


@pytest.fixture
def saved(llama: LlamaBridge, tmp_path: Path) -> Path:
    llama.generate("Hello! My name is Zorvane.", sampling=GREEDY)
    llama.generate_continue("What is my name?", sampling=GREEDY)
    return llama.session_save(tmp_path / "talk.session").path


@persistent
def test_a_good_file_is_told_field_by_field(run: Run, llama: LlamaBridge, saved: Path) -> None:
    result = run("session", "verify", saved, "--backend", llama.backend)
    assert result.exit_code == 0
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{saved}: ")
    assert lines[0].endswith(f"{len(llama.session().tokens)} tokens, whole")
    assert lines[-1] == "✓ can be loaded"
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:-1]}
    assert rows["context.kv_type_k"] == ["f16", "f16", "✓"]
    assert {"format", "model.weights", "context.byte_order", "context.n_ctx"} <= set(rows)
    assert all(row[-1] == "✓" for row in rows.values())


@persistent
def test_deep_says_what_it_compared(run: Run, llama: LlamaBridge, saved: Path) -> None:
    result = run("session", "verify", saved, "--deep", "--backend", llama.backend)
    assert result.exit_code == 0
    assert result.stdout.endswith("✓ can be loaded, and its KV cache fits its tokens\n")
    assert "same best token at" in result.stdout
    args = ("session", "verify", saved, "--deep", "--json", "--backend", llama.backend)
    record = json.loads(run(*args).stdout)
    assert record["ok"] is record["logits"]["ok"] is True
    assert record["refusal"] is None
    assert record["logits"]["difference"] <= record["logits"]["limit"]
    assert record["n_tokens"] == len(llama.session().tokens)


@persistent
def test_a_cache_of_other_layers_is_found_by_deep_only(
    run: Run, llama: LlamaBridge, saved: Path
) -> None:
    def swap(sequence: bytearray) -> None:
        one, two = layers(sequence)[0][:2]
        sequence[one], sequence[two] = sequence[two], sequence[one]

    forge(saved, state=swap)
    args = ("session", "verify", saved, "--backend", llama.backend)
    assert run(*args).exit_code == 0
    result = run(*args, "--deep")
    assert result.exit_code == 1
    assert result.stdout.endswith("✗ can be loaded, but its KV cache does not fit its tokens\n")
    record = json.loads(run(*args, "--deep", "--json").stdout)
    assert (record["ok"], record["refusal"]) == (False, None)


@persistent
def test_another_context_is_told_with_the_way_out(
    run: Run, llama: LlamaBridge, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    params = ModelParams(type_k="q8_0", flash_attn=False, n_ctx=1024)
    with LlamaBridge("demo", backend=llama.backend, params=params) as other:
        other.generate("Hello! " * 150, sampling=GREEDY)
        n = other.session_save(path).n_tokens
    args: list[str | Path] = ["session", "verify", path, "--backend", llama.backend]
    result = run(*args, "--n-ctx", "256")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == (
        "✗ cannot be loaded: context.kv_type_k, context.flash_attention, context.n_ctx differ"
    )
    way_out = f"--type-k q8_0 --no-flash-attn --n-ctx {n + 1}"
    assert result.stderr == f"try {way_out}\n"
    assert run(*args, *way_out.split(), "--deep").exit_code == 0


@persistent
def test_another_model_is_told_by_every_field(run: Run, llama: LlamaBridge, saved: Path) -> None:
    forge(saved, manifest={"model.weights": "0" * 64, "context.lora": ["a\n" * 1000]})
    result = run("session", "verify", saved, "--backend", llama.backend, "--deep")
    assert result.exit_code == 1
    assert "✗ cannot be loaded: model.weights, context.lora differ" in result.stdout
    assert "logits" not in result.stdout
    lines = result.stdout.splitlines()
    assert len(lines) == 2 + 15 + 1
    assert max(map(len, lines[1:])) < 100


@persistent
def test_what_cannot_be_tried_is_one_error(run: Run, llama: LlamaBridge, saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-3])
    for path in (saved, saved.with_name("missing")):
        result = run("session", "verify", path, "--backend", llama.backend)
        assert result.exit_code == 1
        assert result.stderr.startswith(f"error: {path}: ")
    args = ("--type-v", "q8_0", "--no-flash-attn")
    assert run("session", "verify", saved, *args).exit_code == 2
    assert run("session", "verify", saved, "--kv-type-k", "f8").exit_code == 2


@pytest.mark.lacks_capability("session_persistence")
def test_a_backend_without_sessions_says_which_has_them(
    run: Run, llama: LlamaBridge, tmp_path: Path
) -> None:
    (tmp_path / "s").write_bytes(b"")
    result = run("session", "verify", tmp_path / "s", "--backend", llama.backend)
    assert result.exit_code == 1
    usable = "native" in registry.available_in(Capability.SESSION_PERSISTENCE)
    assert ("try --backend native" in result.stderr) is usable
