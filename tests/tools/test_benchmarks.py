"""The benchmarks run, whatever they say: their numbers are for people, not for tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llama_bridge.registry import probe_all
from tools.browser import browsers

ROOT = Path(__file__).parents[2]
PACKED = ("F16", "Q4_0", "Q5_0", "Q8_0", "Q4_K", "Q5_K", "Q6_K")


@pytest.mark.slow
def test_quick_benchmarks_measure_every_section_and_judge_every_bound(tmp_path: Path) -> None:
    available = {found.name for found in probe_all() if found.ok}
    if available != {"native", "wasm"}:
        pytest.skip(f"needs both backends, there are: {', '.join(sorted(available)) or 'none'}")
    if browsers.find("chromium") is None:
        pytest.skip("Chromium is not installed; on Debian: apt-get install chromium")
    out = tmp_path / "report.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "1", "--json", str(out)]
    command += ["--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    report = json.loads(out.read_text())
    titles = [table["title"].split(":")[0].split(",")[0] for table in report["tables"]]
    assert titles == [
        "Speed",
        *(f"Products with {name}" for name in PACKED),
        "Numerics",
        "Overhead",
        "Structured output",
        "Structured output",
        "Guesses from what was said",
        "Chats in chat.wasm",
        "Async",
        "Serving",
        "Embedding 16 texts of 12 words",
        "Embedding 4 texts of 150 words",
        "Reranking 4 documents of 60 words",
        "Parallel",
        "Parallel",
        "Remote",
        "Remote",
        "Moves between replicas",
        "Routing",
        "Routing",
        "Sizes of a fleet",
        "What an ingress needs to rank the replicas for a request",
        "Time to first token",
        "Sessions",
        "Sessions",
        "Named sessions at 256 tokens",
        "From nothing to the first token",
        "From nothing to the first token",
        "Import time",
        "Peak memory",
        "Before the engine",
        "The application as a page without a server",
        "The application as a server's page",
        "The application's memory over 20 answers",
        "llama-bridge app",
        "The application while 200 letters of Markdown are written at 200 tokens/s",
    ]
    assert all(table["title"] in done.stdout for table in report["tables"])
    judged = " ".join(bound["promise"] for bound in report["bounds"])
    for words in (
        "raw loop",
        "Llama",
        "stock kernel",
        "wasm logits",
        "native adds",
        "wasm adds",
        "JSON object",
        "big enum",
        "long string",
        "quotes its prompt",
        "repeats nothing",
        "41 messages render",
        "preflight of 0.5 GB",
        "of a plain download",
        "five tools render",
        "remote adds at most 5 ms to the first text (next turn, streamed, llama-server)",
        "remote adds at most 0.2 ms a token (next turn, streamed, llama-bridge serve)",
        "a move is at least",
        "a token is read",
        "asynchronous stream is at most 3 % slower on native",
        "the server costs at most",
        "raw llama.cpp (embedding",
        "wasm at least 0.5 of native (embedding",
        "raw llama.cpp (reranking",
        "wasm at least 0.5 of native (reranking",
        "save",
        "load",
        "fork",
        "import",
        "wasm peak memory",
        "first paint of the server's page",
        "first answer of the page without a server, offline visit",
        "the window's first answer",
        "memory over 20 answers",
        "no task of the page over 50 ms",
        "scripts of the application",
    ):
        assert words in judged
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"], "session files were left behind"


def test_an_unknown_section_or_backend_is_named() -> None:
    command = [sys.executable, "-m", "benchmarks", "--sections", "speed,warp", "--backends", "cuda"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "cuda, warp" in done.stderr


@pytest.mark.slow
def test_the_comparison_in_chromium_runs() -> None:
    if browsers.find("chromium") is None:
        pytest.skip("Chromium is not installed; on Debian: apt-get install chromium")
    command = [sys.executable, "-m", "benchmarks.browser", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for contender in ("llama.wasm in Chromium", "llama.wasm in wasmtime", "wllama in Chromium"):
        assert contender in done.stdout
