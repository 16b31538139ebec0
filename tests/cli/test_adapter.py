"""``--adapter FILE[=SCALE]`` on run and chat, and what ``info`` tells about an adapter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llama_bridge import LlamaBridge
from llama_bridge.models.source import open_model
from llama_bridge.testing.adapters import write_adapter
from tests.cli.conftest import Run

HELLO = "Hello! My name is Zorvane."

pytestmark = pytest.mark.requires_capability("adapters")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "a=b.gguf", open_model("demo"), strength=4.0, name="pirate")


def test_run_answers_with_adapters(run: Run, adapter: Path, llama_backend: str) -> None:
    def answer(*options: str) -> str:
        done = run("run", HELLO, "--backend", llama_backend, *options)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    plain = answer()
    for options, adapters in (
        ([f"{adapter}"], [(adapter, 1.0)]),
        ([f"{adapter}=0.5"], [(adapter, 0.5)]),
        ([f"{adapter}=0.25", f"{adapter}=.25"], [(adapter, 0.5)]),
    ):
        with LlamaBridge("demo", backend=llama_backend, adapters=adapters) as llama:
            expected = llama.generate(HELLO, temperature=0, max_tokens=512).text
        given = [part for option in options for part in ("--adapter", option)]
        assert answer(*given).rstrip("\n") == expected.rstrip("\n")
    assert answer("--adapter", f"{adapter}=0") == plain != answer("--adapter", str(adapter))


def test_a_file_whose_name_ends_like_a_scale_is_a_file(run: Run, tmp_path: Path) -> None:
    odd = write_adapter(tmp_path / "style=2", open_model("demo"))
    assert run("run", HELLO, "--adapter", str(odd), "--max-tokens", "1").exit_code == 0
    wrong = run("run", HELLO, "--adapter", f"{tmp_path / 'style'}=3")
    assert wrong.exit_code == 1
    assert "no such file" in wrong.stderr


def test_chat_talks_with_adapters(run: Run, adapter: Path, llama_backend: str) -> None:
    given = f"{HELLO}\n"
    plain = run("chat", "--backend", llama_backend, given=given)
    with_adapter = run("chat", "--backend", llama_backend, "--adapter", str(adapter), given=given)
    assert plain.exit_code == with_adapter.exit_code == 0
    assert plain.stdout != with_adapter.stdout


def test_an_unusable_adapter_is_one_line_and_a_hint(run: Run, adapter: Path) -> None:
    done = run("run", HELLO, "--adapter", "demo")
    assert done.exit_code == 1
    assert "this is a model, not a LoRA adapter" in done.stderr
    done = run("run", HELLO, "--adapter", f"{adapter}=nan")
    assert done.exit_code == 1
    assert "scale nan" in done.stderr
    done = run("run", HELLO, "--model", str(adapter))
    assert done.exit_code == 1
    assert "--adapter" in done.stderr


def test_info_tells_what_an_adapter_is(run: Run, adapter: Path) -> None:
    facts = json.loads(run("info", adapter, "--json").stdout)
    assert (facts["adapter"], facts["architecture"]) == ("lora", "llama")
    assert (facts["rank"], facts["alpha"], facts["name"]) == (4, 8.0, "pirate")
    assert "blk.0.attn_q.weight" in facts["changes"]
    shown = " ".join(run("info", adapter).stdout.split())
    assert "kind a LoRA adapter" in shown
    assert "rank 4 alpha 8" in shown
    assert "attn_k.weight, attn_output.weight, attn_q.weight, attn_v.weight" in shown
