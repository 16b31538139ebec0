"""A few hundred hostile models; ``make fuzz-models`` tries 50,000 on each backend."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.fuzz.models.mutations import mutant
from tests.fuzz.models.runner import fuzz_models
from tests.fuzz.models.seeds import SEEDS, prepare, read_seeds

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="forks, and bounds memory as Linux does"),
]


def test_no_hostile_model_ends_the_native_process(tmp_path: Path) -> None:
    pytest.importorskip("llama_bridge_native.opening", reason="native is not installed")
    report = fuzz_models(250, "native", seed=1, keep=tmp_path / "found")
    assert report.problems == []
    assert report.files == 250
    # Each depth is reached: refused before llama.cpp, by it, and used.
    for outcome in ("InvalidModel", "ModelLoadError", "used"):
        assert report.outcomes[outcome] > 30, report.outcomes


def test_no_hostile_model_leaves_the_sandbox_even_without_the_preflight(tmp_path: Path) -> None:
    pytest.importorskip("llama_bridge_wasm.hosts.wasmtime.guest", reason="no wasmtime")
    report = fuzz_models(100, "wasm", seed=1, preflight=False, keep=tmp_path / "found")
    assert report.problems == []
    assert report.files == 100
    assert report.outcomes["used"] > 10, report.outcomes


def test_mutants_are_what_they_say(tmp_path: Path) -> None:
    prepare(tmp_path)
    seeds = read_seeds(tmp_path)
    assert len({parameters["architecture"] for parameters in SEEDS.values()}) >= 8
    right = {document.whole() for document in seeds.values()}
    mutants = [mutant(seeds, 0, number) for number in range(200)]
    assert mutants == [mutant(seeds, 0, number) for number in range(200)]
    assert all(m.recipe for m in mutants)
    assert sum(m.data in right for m in mutants) < 20
    assert {document.whole() for document in seeds.values()} == right, "a seed was changed"
