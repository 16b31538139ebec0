"""``llama-bridge pull``, ``models`` and ``rm``, and ``--model`` with a name."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_bridge.hub import transfer
from llama_bridge.hub.cache import hub_cache
from llama_bridge.models.source import open_model
from llama_bridge.testing.hub import HubServer
from tests.cli.conftest import Program, Run
from tests.cli.screens import Open
from tests.hub.conftest import keep_compiled, real
from tools.split_model import split_model

Q4 = "hf:org/repo/a-Q4_K_M.gguf"
Q8 = "hf:org/repo/a-Q8_0.gguf"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with two quantisations of one model."""
    if sys.platform == "emscripten":
        pytest.skip("a page has no server")
    keep_compiled(tmp_path / "caches")
    with HubServer() as server:
        for name, value in (server.environment(tmp_path) | {"HOME": str(tmp_path)}).items():
            monkeypatch.setenv(name, value)
        server.add("org/repo", {"a-Q4_K_M.gguf": real("aaaa"), "a-Q8_0.gguf": real("bbbb")})
        yield server


def test_a_model_is_pulled_listed_used_and_removed(hub: HubServer, run: Run) -> None:
    assert run("models").stdout == "no models on this disk yet\n"
    pulled = run("pull", "hf:org/repo")
    assert pulled.exit_code == 0
    assert Path(pulled.stdout.rpartition(" (")[0]).read_bytes() == real("aaaa")
    told = json.loads(run("pull", "hf:org/repo:q8_0", "--json").stdout)
    assert (told["name"], told["size"]) == ("hf:org/repo:q8_0", len(real("bbbb")))
    listed = run("models").stdout
    assert [line for line in listed.splitlines() if line.startswith("hf:")] == [Q4, Q8]
    assert "2.64 MB, Q8_0, llama, 1,024 tokens, hub" in listed
    assert listed.endswith("2 models, 5.28 MB\n")
    answer = run("run", "Hello", "--model", "hf:org/repo", "--json")
    assert json.loads(answer.stdout)["model"].endswith("aaaa")
    assert run("rm", "hf:org/repo:q8_0").stdout == f"removed {Q8} (2.64 MB freed)\n"
    assert json.loads(run("rm", Q4, "--json").stdout) == [{"name": Q4, "freed": len(real("aaaa"))}]
    assert json.loads(run("models", "--json").stdout) == []


def test_the_list_for_scripts_says_all_of_each_model(hub: HubServer, run: Run) -> None:
    run("pull", "hf:org/repo")
    (model,) = json.loads(run("models", "--json").stdout)
    assert model["sha256"] == os.path.basename(os.path.realpath(model["path"]))
    assert model["files"] == [model["path"]]
    assert model | {"path": "", "files": [], "sha256": ""} == {
        "name": Q4,
        "path": "",
        "files": [],
        "from": "hub",
        "size": len(real("aaaa")),
        "quantisation": "Q8_0",
        "architecture": "llama",
        "context_length": 1024,
        "sha256": "",
        "problem": None,
    }


def test_a_split_model_is_one_model(hub: HubServer, run: Run, tmp_path: Path) -> None:
    parts = split_model(open_model("demo").path, tmp_path / "m-Q8_0", 3)
    hub.add("org/split", {path.name: path for path in parts})
    total = sum(path.stat().st_size for path in parts)
    told = json.loads(run("pull", "hf:org/split:Q8_0", "--json").stdout)
    assert (Path(told["path"]).name, told["size"]) == (parts[0].name, total)
    listed = run("models").stdout
    assert f"hf:org/split/{parts[0].name}\n" in listed
    assert "2.64 MB, 3 files, Q8_0, llama, 1,024 tokens, hub" in listed
    assert listed.endswith("1 model, 2.64 MB\n")
    (model,) = json.loads(run("models", "--json").stdout)
    assert [Path(path).name for path in model["files"]] == [path.name for path in parts]
    shown = json.loads(run("info", str(parts[1]), "--json").stdout)
    assert (shown["split_count"], shown["file_size"]) == (3, total)
    assert shown["parameters"] == open_model("demo").n_parameters
    assert f"{parts[0]} and 2 more (2.64 MB, GGUF 3)" in run("info", str(parts[1])).stdout
    answer = json.loads(run("run", "Hello", "--model", "hf:org/split", "--json").stdout)
    assert answer["model"] == "llama-bridge demo"
    (gone,) = json.loads(run("rm", f"hf:org/split/{parts[2].name}", "--json").stdout)
    assert gone["freed"] == total
    assert json.loads(run("models", "--json").stdout) == []


def test_a_name_with_several_files_is_removed_only_with_all(hub: HubServer, run: Run) -> None:
    run("pull", "hf:org/repo")
    run("pull", "hf:org/repo:Q8_0")
    refused = run("rm", "hf:org/repo")
    assert refused.exit_code == 2
    assert Q4 in refused.stderr
    assert len(json.loads(run("models", "--json").stdout)) == 2
    assert run("rm", "--all", "hf:org/repo").exit_code == 0
    assert json.loads(run("models", "--json").stdout) == []


def test_what_is_not_there_lists_what_is(hub: HubServer, run: Run) -> None:
    failed = run("pull", "hf:org/repo:Q3_K_S", "--json")
    assert failed.exit_code == 1
    assert json.loads(failed.stdout)["error"]["type"] == "ModelNotFound"
    assert "a-Q8_0.gguf" in failed.stderr
    run("pull", "hf:org/repo")
    for command in (("rm", "hf:org/none"), ("run", "hi", "-m", "hf:org/repo:Q2_K")):
        failed = run(*command)
        assert failed.exit_code == 1
        assert "a-Q4_K_M.gguf" in failed.stderr


def test_a_token_is_never_shown(hub: HubServer, program: Program) -> None:
    token = "hf_" + "SeCrEt" * 6
    hub.add("org/repo", {"a-Q4_K_M.gguf": real("aaaa")}, token="another")
    done = program("-v", "pull", "hf:org/repo", env={"HF_TOKEN": token, "HF_DEBUG": "0"})
    assert done.returncode == 1
    assert b"token is not valid" in done.stderr
    assert token.encode() not in done.stdout + done.stderr


def test_nothing_but_the_result_is_written_to_a_pipe(hub: HubServer, program: Program) -> None:
    hub.fail("cut", path="/blob/*", after=1_000_000)
    done = program("pull", "hf:org/repo")
    assert done.returncode == 0
    assert done.stderr == b""
    assert done.stdout.count(b"\n") == 1


def test_a_terminal_shows_a_bar_with_speed_and_time(hub: HubServer, show: Open) -> None:
    hub.fail("slow", path="/blob/*", seconds=0.08, times=None)
    names = ("HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "HOME", "HF_TOKEN_PATH")
    screen = show("pull", "hf:org/repo", columns=100, **{name: os.environ[name] for name in names})
    screen.wait_for(r"downloading .*2\.6 MB +\d+\.\d [kM]B/s")
    screen.wait_for(r"\(2\.64 MB\)")
    assert "downloading" not in "\n".join(screen.lines)


def test_ctrl_c_ends_a_download_quietly_and_the_next_one_goes_on(
    hub: HubServer, show: Open, program: Program
) -> None:
    hub.fail("slow", path="/blob/*", seconds=0.15, times=None)
    names = ("HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "HOME", "HF_TOKEN_PATH")
    screen = show("pull", "hf:org/repo", columns=100, **{name: os.environ[name] for name in names})
    screen.wait_for("B/s")
    screen.key("C-c")
    assert screen.status() == 130
    assert "Traceback" not in "\n".join(screen.lines)
    hub.faults.clear()
    assert program("pull", "hf:org/repo").returncode == 0
    assert re.fullmatch(r"bytes=[1-9]\d+-", hub.downloads()[-1].headers["range"])


def test_a_download_that_broke_off_is_listed_and_removed(
    hub: HubServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PAUSE", 0.01)
    hub.fail("cut", path="/blob/*", after=1_000_000, times=transfer.TRIES + 2)
    hub.fail("no_ranges", path="/blob/*", times=transfer.TRIES + 1)
    assert run("pull", "hf:org/repo").exit_code == 1
    listed = run("models").stdout
    assert "hf:org/repo\n  1 MB, hub: an unfinished download: llama-bridge pull goes on" in listed
    (record,) = json.loads(run("models", "--json").stdout)
    assert record["problem"].startswith("an unfinished download")
    assert run("rm", "hf:org/repo").stdout == "removed hf:org/repo (1 MB freed)\n"
    assert run("models").stdout == "no models on this disk yet\n"


def test_a_name_of_several_lines_is_shown_on_one(hub: HubServer, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / ".lmstudio" / "models" / "some" / "one"
    folder.mkdir(parents=True)
    (folder / "a\nhf:other.gguf").write_bytes(real("aaaa"))
    lines = run("models").stdout.splitlines()
    assert lines[0] == "lmstudio:some/one/a\N{REPLACEMENT CHARACTER}hf:other.gguf"
    assert len(lines) == 3


def test_each_unfinished_download_that_is_removed_is_told(hub: HubServer, run: Run) -> None:
    blobs = hub_cache() / "models--org--repo" / "blobs"
    blobs.mkdir(parents=True)
    for digit in "12":
        (blobs / f"{digit * 64}.incomplete").write_bytes(b"GGUF" * 250)
    freed = json.loads(run("rm", "hf:org/repo", "--all", "--json").stdout)
    assert freed == [{"name": "hf:org/repo", "freed": 1000}] * 2
