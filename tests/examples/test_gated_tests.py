"""examples/gated_tests is a project of its own, and its tests are gated as its README says."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from llama_bridge import __version__

PROJECT = Path(__file__).parents[2] / "examples" / "gated_tests"
SKIPPED = {
    "native": {
        "test_without_continuation_nothing_is_passed_over_in_silence": "the native backend has kv_continuation",
        "test_without_persistence_no_save_is_offered": "the native backend has session_persistence",
    },
    "wasm": {
        "test_a_second_note_costs_only_its_own_tokens": "the wasm backend lacks kv_continuation",
        "test_a_conversation_survives_a_restart": "the wasm backend lacks session_persistence",
    },
}


def test_each_backend_runs_what_it_can_and_skips_the_rest_with_a_reason(
    llama_backend: str, tmp_path: Path
) -> None:
    if llama_backend not in SKIPPED:
        pytest.skip(f"nothing is known about the {llama_backend} backend")
    report = tmp_path / "report.xml"
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "pytest",
                "-p",
                "no:cacheprovider",
                "-p",
                "no:hypothesispytest",
            ),
            *("--llama-backend", llama_backend, f"--junitxml={report}"),
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"llama-bridge {__version__}: {llama_backend} (" in done.stdout

    cases = list(ET.parse(report).getroot().iter("testcase"))
    skips = {
        case.attrib["name"].partition("[")[0]: skip.attrib["message"]
        for case in cases
        for skip in case.findall("skipped")
    }
    expected = SKIPPED[llama_backend]
    assert skips.keys() == expected.keys()
    for name, reason in expected.items():
        assert skips[name].startswith(reason)
    assert len(cases) - len(skips) == 7
