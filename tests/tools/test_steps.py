"""Commands of the tools: bounded in time together, and a failure says which and why."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from tools import pythons
from tools.arm64.debian import needed
from tools.project import name_of, needs, needs_of_tests
from tools.project import pythons as promised
from tools.steps import Clock, StepFailed, run


def test_a_step_gives_what_it_wrote(tmp_path: Path) -> None:
    code = "import os; print(os.getcwd(), os.environ['SAID'])"
    said = run(
        "a", [sys.executable, "-c", code], Clock(60), folder=tmp_path, environment={"SAID": "x"}
    )
    assert said == f"{tmp_path} x\n"


def test_a_step_that_fails_says_which_and_its_last_lines() -> None:
    code = "import sys; print('out'); print('why', file=sys.stderr); sys.exit(3)"
    with pytest.raises(StepFailed, match=r"(?s)^unpacking: .* status 3:\nout\nwhy$"):
        run("unpacking", [sys.executable, "-c", code], Clock(60))


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(StepFailed, match="unpacking: no-such-program cannot be run"):
        run("unpacking", ["no-such-program"], Clock(60))


def test_all_steps_together_end_in_time() -> None:
    clock = Clock(0.5)
    began = time.monotonic()
    with pytest.raises(StepFailed, match="waiting: not done within"):
        run("waiting", [sys.executable, "-c", "import time; time.sleep(60)"], clock)
    assert time.monotonic() - began < 20
    with pytest.raises(StepFailed, match="allow more with --seconds"):
        run("the next", [sys.executable, "-c", ""], clock)


def test_the_python_that_runs_this_is_found_and_one_that_is_not_there_is_not() -> None:
    found = pythons.find(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert found is not None
    assert pythons.find("3.1") is None


def test_what_the_project_needs_is_read_from_its_one_place() -> None:
    names = {name_of(need) for need in needs()}
    assert {"wasmtime", "xxhash", "click"} <= names
    assert "llama-cpp-python" not in names
    assert {name_of(need) for need in needs_of_tests()} > names | {"pytest", "numpy"}
    assert promised()[0] == "3.11"


APT = """\
python3-minimal
  PreDepends: python3.14-minimal
  Depends: python3.14-minimal
  Depends: dpkg
"""
URIS = """\
'http://somewhere/pool/main/p/libc6_2.41-12_arm64.deb' libc6_2.41-12_arm64.deb 2400 SHA256:ab
'http://somewhere/pool/main/p/python3.14-minimal_3.14.1-1_arm64.deb' python3.14-minimal_3.14.1-1_arm64.deb 21 SHA256:cd
"""


def test_which_packages_an_arm64_python_is_made_of_is_asked_of_apt() -> None:
    asked: list[str] = []

    def closure(wanted: list[str]) -> str:
        asked.extend(wanted)
        return URIS

    assert needed(APT, closure) == ["libc6", "python3.14-minimal"]
    assert asked[:2] == ["python3.14-minimal", "libpython3.14-stdlib"]
    with pytest.raises(StepFailed, match="do its sources have that architecture"):
        needed("N: Unable to locate package", closure)
