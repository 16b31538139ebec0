"""Split models by name: all parts are fetched, checked, listed and removed as one."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llama_bridge import (
    DigestMismatch,
    DownloadError,
    InvalidInput,
    InvalidModel,
    LlamaBridge,
    ModelFile,
    ModelNotFound,
    NotEnoughSpace,
)
from llama_bridge.hub import fetching
from llama_bridge.hub.cache import hub_cache
from llama_bridge.hub.find import find_model, pull_model
from llama_bridge.hub.looking import look_at
from llama_bridge.hub.removing import models_named, remove_model
from llama_bridge.hub.shelf import kept_models
from llama_bridge.models.source import open_model
from llama_bridge.testing.hub import HubServer
from tools.split_model import split_model

from .conftest import Heard, files_in, real
from .test_shelf import ollama

NAME = "m-Q4_K_M-0000{}-of-00003.gguf"
NAMES = [NAME.format(i) for i in (1, 2, 3)]
DEMO = open_model("demo")


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """The demo model in three files."""
    folder = tmp_path / "published"
    folder.mkdir()
    return split_model(DEMO.path, folder / "m-Q4_K_M", 3)


@pytest.fixture
def published(hub: HubServer, parts: list[Path]) -> HubServer:
    """A hub that has it, and a model in one file."""
    files = {f"Q4_K_M/{path.name}": path for path in parts}
    hub.add("org/repo", files | {"README.md": b"x", "m-Q2_K.gguf": real("mark")})
    return hub


@pytest.fixture
def url(published: HubServer) -> str:
    """The address of its second part."""
    return published.address("org/repo", f"Q4_K_M/{NAMES[1]}")


def opened(name: str) -> ModelFile:
    """The model of a name."""
    return open_model(find_model(name))


def size_of(parts: list[Path]) -> int:
    return sum(path.stat().st_size for path in parts)


def fetched(hub: HubServer) -> list[str]:
    """Which files were asked for, in order."""
    return [asked.path.rpartition("/")[2] for asked in hub.downloads()]


# the hub


@pytest.mark.parametrize(
    "name",
    [
        "hf:org/repo",
        "hf:org/repo:Q4_K_M",
        "org/repo:q4_k_m",
        *(f"hf:org/repo/Q4_K_M/{name}" for name in NAMES),
        "hf:org/repo/Q4_K_M/m-Q4_K_M.gguf",
        f"https://huggingface.co/org/repo/blob/main/Q4_K_M/{NAMES[2]}",
    ],
)
def test_each_form_of_a_name_finds_all_parts(
    published: HubServer, heard: Heard, name: str, parts: list[Path]
) -> None:
    path = find_model(name, heard)
    model = open_model(path)
    assert [part.path.name for part in model.files] == NAMES
    assert model.n_parameters == DEMO.n_parameters
    assert fetched(published) == NAMES
    assert heard.stages() == ["download"]
    assert {step.total for step in heard} == {size_of(parts)}
    assert [step.done for step in heard] == sorted(step.done for step in heard)
    assert heard[-1].done == size_of(parts)
    n = len(published.asked)
    assert find_model(name) == path
    assert len(published.asked) == n or name == "hf:org/repo"
    assert fetched(published) == NAMES


@pytest.mark.not_remote("a server has models of its own")
def test_it_loads_and_answers(published: HubServer, llama_backend: str) -> None:
    with LlamaBridge("hf:org/repo", backend=llama_backend, n_ctx=256) as llama:
        split = llama.generate("Hello", temperature=0, max_tokens=8).text
    with LlamaBridge("demo", backend=llama_backend, n_ctx=256) as llama:
        assert llama.generate("Hello", temperature=0, max_tokens=8).text == split


def test_a_list_of_what_there_is_has_one_line_for_all_parts(
    published: HubServer, parts: list[Path]
) -> None:
    with pytest.raises(ModelNotFound) as error:
        find_model("hf:org/repo:Q6_K")
    told = str(error.value).splitlines()
    assert len(told) == 3
    (line,) = [line for line in told if NAMES[0] in line]
    assert line.split()[:3] == ["Q4_K_M", f"{size_of(parts) / 1e6:.1f}", "MB"]
    assert line.endswith("(3 files)")
    assert opened(error.value.there[0]).n_parameters == DEMO.n_parameters


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_part_that_the_repository_lacks_is_named_and_nothing_is_fetched(
    hub: HubServer, parts: list[Path], gone: int
) -> None:
    hub.add("org/repo", {path.name: path for path in parts if path != parts[gone]})
    for name in ("hf:org/repo", f"hf:org/repo/{NAMES[gone]}", f"hf:org/repo/{NAMES[2 - gone]}"):
        with pytest.raises(ModelNotFound, match="split model of 3 files") as error:
            find_model(name)
        assert NAMES[gone] in str(error.value)
    assert fetched(hub) == []


def test_a_foreign_part_is_named(hub: HubServer, parts: list[Path], tmp_path: Path) -> None:
    others = split_model(DEMO.path, tmp_path / "other", 2)
    hub.add("org/repo", {path.name: path for path in parts} | {NAMES[1]: others[1]})
    with pytest.raises(InvalidModel, match=f"{NAMES[1]} is not part 2 of 3"):
        opened("hf:org/repo")


def test_what_has_arrived_is_not_fetched_again(published: HubServer) -> None:
    published.fail("cut", path=f"*{NAMES[1]}", after=200_000, times=None)
    with pytest.raises(DownloadError, match=NAMES[1]):
        find_model("hf:org/repo")
    published.faults = type(published.faults)()
    published.asked.clear()
    assert opened("hf:org/repo").n_parameters == DEMO.n_parameters
    assert fetched(published) == NAMES[1:]
    assert published.downloads()[0].headers["range"] == "bytes=200000-"


def test_a_part_that_was_damaged_on_its_way_is_named_and_not_used(published: HubServer) -> None:
    published.fail("corrupt", path=f"*{NAMES[2]}", after=70_000, times=None)
    with pytest.raises(DigestMismatch, match=NAMES[2]):
        find_model("hf:org/repo")
    published.faults = type(published.faults)()
    assert opened("hf:org/repo").n_parameters == DEMO.n_parameters


@pytest.mark.parametrize("which", [0, 1, 2])
def test_each_part_in_the_cache_is_checked_and_pull_mends_it(
    published: HubServer, which: int, parts: list[Path]
) -> None:
    path = opened("hf:org/repo").files[which].path
    good = path.read_bytes()
    path.resolve().write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(DigestMismatch, match=NAMES[which]) as error:
        find_model("hf:org/repo")
    assert error.value.expected == hashlib.sha256(good).hexdigest()
    published.asked.clear()
    assert pull_model("hf:org/repo") == find_model("hf:org/repo")
    assert fetched(published) == [NAMES[which]]
    assert path.read_bytes() == good


def test_a_part_that_is_gone_from_the_cache_is_fetched_or_named(
    published: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = opened("hf:org/repo").files[1].path
    path.resolve().unlink()
    path.unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("hf:org/repo", f"hf:org/repo/Q4_K_M/{NAMES[0]}"):
        with pytest.raises(ModelNotFound, match=NAMES[1]):
            find_model(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    published.asked.clear()
    assert opened("hf:org/repo").n_parameters == DEMO.n_parameters
    assert fetched(published) == [NAMES[1]]


def test_a_disk_without_room_for_all_parts_is_told_before_the_first(
    published: HubServer, parts: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "free_space", lambda _: size_of(parts) - 1)
    with pytest.raises(NotEnoughSpace) as error:
        find_model("hf:org/repo")
    assert error.value.needed == size_of(parts)
    assert fetched(published) == []
    monkeypatch.setattr(fetching, "free_space", lambda _: size_of(parts))
    find_model("hf:org/repo")
    monkeypatch.setattr(fetching, "free_space", lambda _: 0)
    assert pull_model("hf:org/repo")


def test_what_verifying_tells_is_of_all_parts(
    published: HubServer, heard: Heard, tmp_path: Path, parts: list[Path]
) -> None:
    find_model("hf:org/repo")
    for record in (tmp_path / "caches" / "llama-bridge" / "digests").iterdir():
        record.unlink()
    find_model("hf:org/repo", heard)
    assert heard.stages() == ["verify"]
    assert [step.done for step in heard] == sorted(step.done for step in heard)
    assert (heard[-1].done, heard[-1].total) == (size_of(parts), size_of(parts))


def test_two_processes_fetch_each_part_once(published: HubServer) -> None:
    published.fail("slow", times=None, seconds=0.002)
    code = "from llama_bridge.hub.find import find_model; print(find_model('hf:org/repo'))"
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=60)[0] for process in both]
    assert told[0] == told[1] != ""
    assert sorted(fetched(published)) == NAMES


# on the disk


def test_it_is_one_model_in_the_list_and_goes_as_one(
    published: HubServer, parts: list[Path]
) -> None:
    find_model("hf:org/repo")
    find_model("hf:org/repo:Q2_K")
    split, whole = kept_models()
    assert split.name == f"hf:org/repo/Q4_K_M/{NAMES[0]}"
    assert (split.size, split.problem, split.quantisation) == (size_of(parts), "", "Q8_0")
    assert [path.name for path in split.files] == NAMES
    assert (split.sha256, len(whole.sha256 or "")) == (None, 64)
    for name in (
        "hf:org/repo:Q4_K_M",
        f"hf:org/repo/Q4_K_M/{NAMES[1]}",
        "hf:org/repo/Q4_K_M/m-Q4_K_M.gguf",
        str(split.files[2]),
    ):
        assert models_named(name) == [split]
    assert models_named("hf:org/repo") == [split, whole]
    assert remove_model(split) == size_of(parts)
    assert kept_models() == [whole]
    assert not [name for name in files_in(hub_cache()) if "Q4_K_M" in name]


@pytest.mark.parametrize("gone", [0, 2])
def test_an_incomplete_one_is_listed_with_its_problem_and_goes(
    published: HubServer, gone: int
) -> None:
    opened("hf:org/repo").files[gone].path.unlink()
    (kept,) = kept_models()
    assert f"part {gone + 1} of 3 is missing" in kept.problem
    assert models_named("hf:org/repo:Q4_K_M") == [kept]
    remove_model(kept)
    assert kept_models() == []


def test_lm_studio_s_are_found_by_any_part(hub: HubServer, parts: list[Path]) -> None:
    folder = Path(os.environ["HOME"], ".lmstudio", "models", "org", "repo")
    folder.mkdir(parents=True)
    for path in parts:
        (folder / path.name).write_bytes(path.read_bytes())
    (kept,) = kept_models()
    assert kept.name == f"lmstudio:org/repo/{NAMES[0]}"
    for name in (*NAMES, "m-Q4_K_M.gguf", "M-q4_k_m"):
        assert opened(f"lmstudio:org/repo/{name}").n_parameters == DEMO.n_parameters
    with pytest.raises(InvalidInput, match="LM Studio"):
        remove_model(kept)
    (folder / NAMES[1]).unlink()
    (kept,) = kept_models()
    assert "part 2 of 3 is missing" in kept.problem
    with pytest.raises(ModelNotFound, match="part 2 of 3"):
        opened(f"lmstudio:org/repo/{NAMES[2]}")


def test_one_part_in_ollama_s_folder_says_what_it_is(hub: HubServer, parts: list[Path]) -> None:
    folder = Path(os.environ["HOME"], ".ollama", "models")
    ollama(folder, "registry.ollama.ai/library/m/1b", parts[0].read_bytes())
    (kept,) = kept_models()
    assert "part 1 of 3 of a split model, but is not called so" in kept.problem
    with pytest.raises(InvalidModel, match="part 1 of 3"):
        opened("ollama:m:1b")


# addresses


@pytest.mark.parametrize("which", [0, 1, 2])
def test_the_address_of_any_part_fetches_all(
    published: HubServer, heard: Heard, which: int, parts: list[Path]
) -> None:
    address = published.address("org/repo", f"Q4_K_M/{NAMES[which]}")
    path = find_model(address, heard)
    assert [part.path.name for part in open_model(path).files] == NAMES
    assert fetched(published) == NAMES
    assert heard.stages() == ["download"]
    assert heard[-1].done == heard[-1].total == size_of(parts)
    for name in NAMES:
        assert find_model(published.address("org/repo", f"Q4_K_M/{name}")) == path
    assert fetched(published) == NAMES
    (kept,) = kept_models()
    assert (kept.size, kept.problem) == (size_of(parts), "")
    assert models_named(address) == models_named(kept.name) == [kept]
    assert remove_model(kept) == size_of(parts)
    assert kept_models() == []


def test_a_query_and_marks_in_an_address_stay(published: HubServer) -> None:
    address = published.address("org/repo", f"Q4_K_M/{NAMES[1]}")
    opened(f"{address}?download=true")
    opened(address.replace("-00002-of", "%2D00002%2Dof"))
    asked = [asked.path for asked in published.downloads()]
    assert [path.partition("?")[2] for path in asked[:3]] == ["download=true"] * 3
    assert [path.rpartition("/")[2] for path in asked[3:]][::2] == NAMES[::2]


def test_a_digest_in_the_address_is_that_of_its_part(url: str, parts: list[Path]) -> None:
    good = hashlib.sha256(parts[1].read_bytes()).hexdigest()
    assert opened(f"{url}#sha256={good}").n_parameters == DEMO.n_parameters
    bad = "0" * 64
    with pytest.raises(DigestMismatch, match=NAMES[1]):
        find_model(f"{url}?again#sha256={bad}")


def test_parts_that_could_be_changed_on_their_way_are_not_fetched(hub: HubServer) -> None:
    name = f"http://example.invalid/{NAMES[0]}#sha256={'0' * 64}"
    with pytest.raises(DownloadError, match=r"one of 3 parts.*give https"):
        find_model(name)


def test_a_part_that_the_server_lacks_is_named(hub: HubServer, parts: list[Path]) -> None:
    hub.add("org/repo", {path.name: path for path in parts[:2]})
    address = hub.address("org/repo", NAMES[1])
    with pytest.raises(ModelNotFound, match=rf"{NAMES[2]}: the server has no such file"):
        find_model(address)
    hub.add("org/repo", {path.name: path for path in parts})
    hub.asked.clear()
    assert opened(address).n_parameters == DEMO.n_parameters
    assert fetched(hub) == NAMES[2:]


@pytest.mark.parametrize("what", ["whole", "third", "page"])
def test_what_is_another_part_is_named_and_not_kept(
    hub: HubServer, parts: list[Path], what: str, tmp_path: Path
) -> None:
    wrong = {"whole": DEMO.path, "third": parts[2], "page": tmp_path / "page"}
    wrong["page"].write_text("<!doctype html>")
    hub.add("org/repo", {path.name: path for path in parts} | {NAMES[1]: wrong[what]})
    address = hub.address("org/repo", NAMES[0])
    with pytest.raises(InvalidModel, match=NAMES[1]):
        find_model(address)
    hub.add("org/repo", {path.name: path for path in parts})
    assert opened(address).n_parameters == DEMO.n_parameters


def test_pull_asks_for_newer_parts(hub: HubServer, parts: list[Path], url: str) -> None:
    path = find_model(url)
    hub.asked.clear()
    assert pull_model(url) == path
    assert [asked.headers.get("if-none-match", "") != "" for asked in hub.downloads()] == [True] * 3
    data = bytearray(parts[2].read_bytes())
    data[-1] ^= 1
    parts[2].write_bytes(data)
    hub.add("org/repo", {f"Q4_K_M/{part.name}": part for part in parts})
    pull_model(url)
    assert open_model(path).files[2].path.read_bytes() == data


def test_a_part_that_changed_on_this_disk_is_named(url: str) -> None:
    part = opened(url).files[2].path
    part.write_bytes(part.read_bytes() + b"x")
    with pytest.raises(DigestMismatch, match=NAMES[2]):
        find_model(url)


def test_offline_mode_names_the_part_that_is_missing(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(url).files[2].path.unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match=rf"{NAMES[2]}: offline"):
        find_model(url)


def test_a_secret_in_an_address_of_parts_is_not_written(url: str, tmp_path: Path) -> None:
    find_model(f"{url}?s3cr3t")
    written = [path for path in (tmp_path / "caches").rglob("*.json") if path.is_file()]
    assert written
    assert not [path for path in written if "s3cr3t" in path.read_text()]
    (kept,) = kept_models()
    assert [path.name for path in kept.files] == NAMES


def test_a_kill_between_two_parts_leaves_what_was_whole(published: HubServer, url: str) -> None:
    published.fail("slow", path=f"*{NAMES[1]}", times=None, seconds=0.2)
    code = f"from llama_bridge.hub.find import find_model; find_model({url!r})"
    process = subprocess.Popen([sys.executable, "-c", code])
    while NAMES[1] not in fetched(published):
        assert process.poll() is None
    process.kill()
    process.wait()
    published.faults = type(published.faults)()
    published.asked.clear()
    assert opened(url).n_parameters == DEMO.n_parameters
    assert fetched(published) == NAMES[1:]


def test_a_look_reads_the_headers_of_all_parts_and_fetches_none(
    published: HubServer, parts: list[Path], url: str
) -> None:
    whole = open_model(DEMO.path)
    for name in ("hf:org/repo", url):
        looked = look_at(name)
        assert not looked.is_here
        assert looked.model.n_parameters == whole.n_parameters
        assert len(looked.model.files) == len(parts)
        assert looked.received < size_of(parts) / 2
    find_model("hf:org/repo")
    find_model(url)
    for name in ("hf:org/repo", url):
        assert look_at(name).is_here


def test_a_look_names_a_part_of_another_model(
    hub: HubServer, parts: list[Path], tmp_path: Path
) -> None:
    other = split_model(DEMO.path, tmp_path / "other", 2)
    hub.add(
        "org/mixed", {parts[0].name: parts[0], parts[1].name: other[1], parts[2].name: parts[2]}
    )
    with pytest.raises(InvalidModel, match="is not part 2 of 3"):
        look_at("hf:org/mixed")
