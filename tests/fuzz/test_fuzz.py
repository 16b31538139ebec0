"""Some hundred hostile session files; ``make fuzz`` tries a hundred thousand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.fuzz.mutations import mutant, read_seeds
from tests.fuzz.parts import Expected, Parts, structure
from tests.fuzz.runner import fuzz
from tests.fuzz.worker import KINDS, prepare

pytest.importorskip("llama_bridge_native.engine", reason="the native backend is not installed")

COUNT = 400


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the worker's memory is bounded on Linux only")
def test_no_hostile_file_does_harm(tmp_path: Path) -> None:
    report = fuzz(COUNT, seed=1, keep=tmp_path / "found")
    assert report.problems == []
    assert report.files == COUNT
    outcomes = report.outcomes
    # Each depth is reached: files are refused early and late, and taken where nothing is wrong with them.
    for outcome in ("SessionCorrupt", "SessionMismatch", "accepted, faithful", "accepted, forged"):
        assert outcomes[outcome] > COUNT // 50, outcomes
    assert report.peak_mib < 1300  # a worker that compiles chat.wasm first has some 100 more


def test_mutants_are_what_they_say(tmp_path: Path) -> None:
    prepare(tmp_path)
    seeds = read_seeds(tmp_path)
    assert set(seeds) == set(KINDS)
    valid = {data for several in seeds.values() for data in several}
    for data in valid:
        parts = Parts.of(data)
        assert parts.whole() == data
        assert len(structure(parts.memory)) > 3
    mutants = [mutant(seeds, 0, number) for number in range(300)]
    assert mutants == [mutant(seeds, 0, number) for number in range(300)]
    assert all(m.expected is Expected.FORGED for m in mutants if m.data in valid)
    assert len({m.data for m in mutants}) > 290
