"""A name becomes a file: which one, from where, and when nobody has to be asked."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llama_bridge import (
    AccessDenied,
    DigestMismatch,
    DownloadError,
    InvalidInput,
    ModelNotFound,
)
from llama_bridge.hub.cache import hub_cache
from llama_bridge.hub.find import find_model, pull_model
from llama_bridge.hub.removing import models_named, remove_model
from llama_bridge.testing.hub import HubServer

from .conftest import Heard, files_in, real

FILES = [
    "README.md",
    "mmproj-model-Q4_K_M.gguf",
    "imatrix-Q4_K_M.gguf",
    "mtp-model-Q4_K_M.gguf",
    "model-BF16.gguf",
    "model-F16.gguf",
    "model-IQ4_XS.gguf",
    "model-Q8_0.gguf",
    "model-UD-Q4_K_XL.gguf",
    "model-q5_k_m.gguf",
    "sub/model-Q4_K_M.gguf",
]


def published(hub: HubServer, names: list[str] = FILES, repo: str = "org/repo") -> str:
    return hub.add(repo, {name: f"{name}\n".encode() for name in names})


def said(path: object) -> str:
    """Which of the files it is."""
    return Path(str(path)).read_text().strip()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("hf:org/repo", "sub/model-Q4_K_M.gguf"),
        ("hf.co/org/repo:latest", "sub/model-Q4_K_M.gguf"),
        ("https://huggingface.co/org/repo", "sub/model-Q4_K_M.gguf"),
        ("hf:org/repo:Q5_K_M", "model-q5_k_m.gguf"),
        ("org/repo:q8_0", "model-Q8_0.gguf"),
        ("hf:org/repo:F16", "model-F16.gguf"),
        ("hf:org/repo:BF16", "model-BF16.gguf"),
        ("hf:org/repo:Q4_K_XL", "model-UD-Q4_K_XL.gguf"),
        ("hf:org/repo:ud-q4_k_xl", "model-UD-Q4_K_XL.gguf"),
        ("hf:org/repo:Q4_XS", "model-IQ4_XS.gguf"),
        ("hf:org/repo/model-BF16.gguf", "model-BF16.gguf"),
        ("hf:org/repo/mmproj-model-Q4_K_M.gguf", "mmproj-model-Q4_K_M.gguf"),
        ("huggingface.co/org/repo/blob/main/sub/model-Q4_K_M.gguf", "sub/model-Q4_K_M.gguf"),
    ],
)
def test_each_form_of_a_name_finds_its_file(hub: HubServer, name: str, file: str) -> None:
    published(hub)
    assert said(find_model(name)) == file


@pytest.mark.parametrize(
    ("files", "best"),
    [
        (["a-Q2_K.gguf", "a-Q8_0.gguf", "a-Q4_K_S.gguf"], "a-Q8_0.gguf"),
        (["a-Q4_K_M.gguf", "a-Q8_0.gguf"], "a-Q4_K_M.gguf"),
        (["mmproj-Q8_0.gguf", "b.gguf", "c.gguf"], "b.gguf"),
    ],
)
def test_without_a_quantisation_the_best_is_taken_as_llama_cpp_does(
    hub: HubServer, files: list[str], best: str
) -> None:
    published(hub, files)
    assert said(find_model("hf:org/repo")) == best


def test_revisions_are_branches_tags_and_commits(hub: HubServer) -> None:
    first = hub.add("org/repo", {"m.gguf": b"first"})
    hub.add("org/repo", {"m.gguf": b"dev"}, revision="dev/x")
    hub.add("org/repo", {"m.gguf": b"second"})
    assert said(find_model("hf:org/repo")) == "second"
    assert said(find_model("hf:org/repo@dev/x")) == "dev"
    assert said(find_model(f"hf:org/repo/m.gguf@{first}")) == "first"
    with pytest.raises(ModelNotFound, match="no revision v9"):
        find_model("hf:org/repo@v9")


def test_a_path_that_exists_is_a_path(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("org").mkdir()
    Path("org/repo:Q4_K_M").write_bytes(b"mine")
    for model in ("org/repo:Q4_K_M", Path("hf:org/repo"), "nowhere.gguf", "demo"):
        assert find_model(model) == model
    assert hub.asked == []


@pytest.mark.parametrize("name", ["hf:org/repo:Q3_K_S", "hf:org/repo/sub/other.gguf"])
def test_what_cannot_be_resolved_lists_what_there_is(hub: HubServer, name: str) -> None:
    published(hub)
    with pytest.raises(ModelNotFound) as error:
        find_model(name)
    told = str(error.value)
    assert "Q5_K_M" in told
    assert "sub/model-Q4_K_M.gguf" in told
    assert "mmproj" not in told
    assert "hf:org/repo/model-Q8_0.gguf" in error.value.there
    assert all(said(find_model(each)) for each in error.value.there)
    assert isinstance(error.value, FileNotFoundError)


def test_a_repository_without_models_says_what_it_has_instead(hub: HubServer) -> None:
    published(hub, ["model.safetensors", "README.md"])
    with pytest.raises(
        ModelNotFound, match=r"it has README.md, model.safetensors.*GGUF in its name"
    ):
        find_model("hf:org/repo")


def test_what_does_not_exist_says_so(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AccessDenied, match="no such repository, or it is private"):
        find_model("hf:org/nowhere")
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 34)
    with pytest.raises(ModelNotFound, match="no repository org/nowhere"):
        find_model("hf:org/nowhere")


def test_the_second_time_nobody_is_asked_and_nothing_is_read_again(
    hub: HubServer, heard: Heard
) -> None:
    hub.add("org/repo", {"a-Q4_K_M.gguf": real("mark")})
    path = find_model("hf:org/repo", heard)
    assert heard.stages() == ["download"]
    assert (heard[0].done, heard[-1].done) == (0, heard[-1].total)
    hub.close()
    asked = len(hub.asked)
    for name in ("hf:org/repo", "hf:org/repo:Q4_K_M", "hf:org/repo/a-Q4_K_M.gguf"):
        heard.clear()
        assert find_model(name, heard) == path
        assert heard == []
    assert len(hub.asked) == asked


def test_a_better_quantisation_on_the_hub_is_taken_when_the_name_leaves_it_open(
    hub: HubServer,
) -> None:
    published(hub, ["a-Q4_K_M.gguf", "a-Q8_0.gguf"])
    assert said(find_model("hf:org/repo:Q8_0")) == "a-Q8_0.gguf"
    assert said(find_model("hf:org/repo")) == "a-Q4_K_M.gguf"


def test_pull_takes_what_is_new_and_a_load_what_is_there(hub: HubServer) -> None:
    hub.add("org/repo", {"a-Q4_K_M.gguf": b"old"})
    find_model("hf:org/repo")
    hub.add("org/repo", {"a-Q4_K_M.gguf": b"new"})
    assert said(find_model("hf:org/repo")) == "old"
    assert said(pull_model("hf:org/repo")) == "new"
    assert said(find_model("hf:org/repo")) == "new"
    n = len(hub.downloads())
    assert said(pull_model("org/repo:Q4_K_M")) == "new"
    assert len(hub.downloads()) == n


@pytest.mark.parametrize("name", ["demo", "x.gguf", "ollama:x"])
def test_pull_refuses_what_no_server_has(hub: HubServer, name: str) -> None:
    with pytest.raises(InvalidInput, match="give hf:org/repo or https://"):
        pull_model(name)


# one cache for all tools


def test_what_huggingface_hub_fetched_is_used_and_checked_once(
    hub: HubServer, heard: Heard
) -> None:
    from huggingface_hub import hf_hub_download

    hub.add("org/repo", {"a-Q4_K_M.gguf": real("mark")})
    theirs = hf_hub_download(
        "org/repo", "a-Q4_K_M.gguf", endpoint=hub.url, cache_dir=os.environ["HF_HUB_CACHE"]
    )
    n = len(hub.downloads())
    assert find_model("hf:org/repo", heard) == Path(theirs)
    assert heard.stages() == ["verify"]
    assert heard[-1].done == heard[-1].total == len(real("mark"))
    heard.clear()
    find_model("hf:org/repo", heard)
    assert heard == []
    assert len(hub.downloads()) == n


def test_huggingface_hub_uses_what_was_fetched_here(hub: HubServer) -> None:
    from huggingface_hub import hf_hub_download, scan_cache_dir

    hub.add("org/repo", {"d/a-Q4_K_M.gguf": b"content"}, revision="dev")
    ours = find_model("hf:org/repo@dev")
    where = os.environ["HF_HUB_CACHE"]
    theirs = hf_hub_download(
        "org/repo", "d/a-Q4_K_M.gguf", revision="dev", cache_dir=where, local_files_only=True
    )
    assert Path(theirs) == ours
    scanned = scan_cache_dir(where)
    assert not scanned.warnings
    (repo,) = scanned.repos
    assert (repo.repo_id, repo.size_on_disk, set(repo.refs)) == ("org/repo", 7, {"dev"})


def test_a_file_that_another_tool_damaged_is_refused_with_both_digests_and_pull_replaces_it(
    hub: HubServer,
) -> None:
    good = real("mark")
    hub.add("org/repo", {"a-Q4_K_M.gguf": good})
    path = Path(str(find_model("hf:org/repo")))
    bad = good[:-1] + bytes([good[-1] ^ 1])
    path.resolve().write_bytes(bad)
    for _ in range(2):
        with pytest.raises(DigestMismatch, match="llama-bridge pull hf:org/repo") as error:
            find_model("hf:org/repo")
        assert error.value.expected == hashlib.sha256(good).hexdigest()
        assert error.value.found == hashlib.sha256(bad).hexdigest()
    assert pull_model("hf:org/repo") == path
    assert path.read_bytes() == good
    assert find_model("hf:org/repo") == path


@pytest.mark.parametrize("n", range(5))
def test_the_folder_is_the_one_that_llama_cpp_takes(
    n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = [
        "LLAMA_CACHE",
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "HF_HOME",
        "XDG_CACHE_HOME",
    ]
    below = ["", "", "", "hub", "huggingface/hub"]
    for i, name in enumerate(variables):
        monkeypatch.setenv(name, str(tmp_path / name) if i >= n else "")
    assert hub_cache() == tmp_path / variables[n] / below[n]
    for name in variables:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hub_cache() == tmp_path / ".cache/huggingface/hub"


def test_a_file_system_without_links_keeps_the_file_itself(
    hub: HubServer, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1314, "a required privilege is not held by the client")

    monkeypatch.setattr(os, "symlink", refuse)
    hub.add("org/repo", {"a-Q4_K_M.gguf": real("mark")})
    path = Path(str(find_model("hf:org/repo", heard)))
    assert path.read_bytes() == real("mark")
    assert not path.is_symlink()
    heard.clear()
    n = len(hub.downloads())
    assert find_model("hf:org/repo", heard) == path
    assert pull_model("hf:org/repo", heard) == path
    assert heard == []
    assert len(hub.downloads()) == n


# no server


def test_offline_mode_takes_what_is_there_and_asks_nobody(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(hub, ["a-Q8_0.gguf", "a-Q2_K.gguf"])
    path = find_model("hf:org/repo:Q8_0")
    n = len(hub.asked)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert find_model("hf:org/repo") == pull_model("hf:org/repo") == path
    with pytest.raises(ModelNotFound, match="no file with quantisation Q2_K") as missing:
        find_model("hf:org/repo:Q2_K")
    assert missing.value.there == ("hf:org/repo/a-Q8_0.gguf",)
    with pytest.raises(
        DownloadError, match=r"not in the cache, and offline mode \(HF_HUB_OFFLINE\)"
    ):
        find_model("hf:org/other")
    assert len(hub.asked) == n


def test_without_a_connection_what_is_there_is_used(
    hub: HubServer, caplog: pytest.LogCaptureFixture
) -> None:
    published(hub, ["a-Q8_0.gguf"])
    path = find_model("hf:org/repo")
    hub.close()
    assert find_model("hf:org/repo") == path
    assert "using what is in the cache" in caplog.text
    with pytest.raises(DownloadError, match="no connection to http"):
        pull_model("hf:org/repo")
    with pytest.raises(DownloadError, match="no connection to http"):
        find_model("hf:org/other")


def test_without_the_extra_the_error_says_how_to_get_it_and_the_cache_still_works(
    hub: HubServer,
) -> None:
    hub.add("org/repo", {"a-Q4_K_M.gguf": b"content"})
    find_model("hf:org/repo")
    code = (
        "import sys; sys.modules['huggingface_hub'] = None\n"
        "from llama_bridge import DownloadError\n"
        "from llama_bridge.hub.find import find_model\n"
        "print(find_model('hf:org/repo').name)\n"
        "try: find_model('hf:org/other')\n"
        "except DownloadError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    name, error = done.stdout.splitlines()
    assert name == "a-Q4_K_M.gguf"
    assert 'pip install "llama-bridge[hub]"' in error


def test_nothing_is_left_beside_the_file(hub: HubServer, tmp_path: Path) -> None:
    commit = hub.add("org/repo", {"a.gguf": b"content"})
    find_model("hf:org/repo")
    digest = hashlib.sha256(b"content").hexdigest()
    assert files_in(hub_cache()) == [
        f"models--org--repo/blobs/{digest}",
        "models--org--repo/refs/main",
        f"models--org--repo/snapshots/{commit}/a.gguf",
    ]


def test_a_blob_that_huggingface_hub_keeps_elsewhere_has_the_digest_of_its_own_name(
    hub: HubServer,
) -> None:
    hub.add("org/repo", {"a-Q4_K_M.gguf": b"content"})
    path = Path(str(find_model("hf:org/repo")))
    blob = hub_cache() / "models--org--repo/blobs" / hashlib.sha256(b"content").hexdigest()
    shared = hub_cache() / "blobs/ab" / ("ab" * 32)
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(os.path.relpath(shared, blob.parent))
    hub.close()
    assert find_model("hf:org/repo") == path
    (model,) = models_named("hf:org/repo")
    assert model.sha256 == blob.name
    assert remove_model(model) == 0
    assert shared.exists()
    assert not os.path.lexists(path)


def test_a_link_to_a_blob_that_is_gone_is_mended(hub: HubServer) -> None:
    hub.add("org/repo", {"a-Q4_K_M.gguf": b"content"})
    path = Path(str(find_model("hf:org/repo")))
    path.resolve().unlink()
    assert find_model("hf:org/repo") == path
    assert path.read_bytes() == b"content"


@pytest.mark.parametrize(
    "address", ["nonsense", "http://", "http://[", "ftp://x", "http://h:99999"]
)
def test_a_wrong_address_of_the_hub_is_named(
    hub: HubServer, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(DownloadError) as error:
        find_model("hf:org/repo")
    assert address in str(error.value)


def test_a_huggingface_hub_that_cannot_be_imported_says_why(hub: HubServer) -> None:
    code = (
        "from llama_bridge import DownloadError\n"
        "from llama_bridge.hub.find import find_model\n"
        "try: find_model('hf:org/repo')\n"
        "except DownloadError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HF_HUB_DOWNLOAD_TIMEOUT": "soon"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "huggingface_hub cannot be used: ValueError" in done.stdout


@pytest.mark.parametrize(
    "state",
    [
        {"sha": None},
        {"sha": "../../x"},
        {"siblings": 3},
        {"siblings": [{"rfilename": 3}]},
        {"siblings": [{"rfilename": "a-Q4_K_M.gguf", "size": -1, "lfs": {"sha256": "x"}}]},
        {"siblings": [{"rfilename": "a-Q4_K_M.gguf", "size": "x", "lfs": 3}]},
        {"siblings": [{"rfilename": "a-Q4_K_M.gguf", "size": 7, "blobId": "0"}]},
    ],
    ids=str,
)
def test_a_hub_that_talks_nonsense_is_refused(
    hub: HubServer, state: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/repo", {"a-Q4_K_M.gguf": b"content"})
    said = HubServer.state_of

    def lie(server: HubServer, repo: str, commit: str, *, blobs: bool) -> dict[str, object]:
        return said(server, repo, commit, blobs=blobs) | state

    monkeypatch.setattr(HubServer, "state_of", lie)
    with pytest.raises((DownloadError, ModelNotFound)):
        find_model("hf:org/repo")
    assert files_in(hub_cache()) == []


def test_a_digest_in_the_name_is_checked(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    published(hub, ["model-Q8_0.gguf"])
    right = hashlib.sha256(b"model-Q8_0.gguf\n").hexdigest()
    pasted = "https://huggingface.co/org/repo/resolve/main/model-Q8_0.gguf#sha256="
    for name in (pasted, "hf:org/repo:Q8_0#sha256=", "hf:org/repo/model-Q8_0.gguf#sha256="):
        with pytest.raises(DigestMismatch) as error:
            find_model(name + "0" * 64)
        assert (error.value.expected, error.value.found) == ("0" * 64, right)
    assert not hub.downloads()
    assert said(find_model(pasted + right)) == "model-Q8_0.gguf"
    with pytest.raises(DigestMismatch):
        find_model(pasted + "0" * 64)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert said(find_model(pasted + right)) == "model-Q8_0.gguf"
    with pytest.raises(DigestMismatch):
        find_model(pasted + "0" * 64)


def test_a_digest_in_the_name_does_where_the_hub_gives_none(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(hub, ["model-Q8_0.gguf"])
    right = hashlib.sha256(b"model-Q8_0.gguf\n").hexdigest()
    state_of = hub.state_of

    def without_digests(*args: Any, **kwargs: Any) -> dict[str, Any]:
        told = state_of(*args, **kwargs)
        for file in told["siblings"]:
            file.pop("lfs", None)
        return told

    monkeypatch.setattr(hub, "state_of", without_digests)
    with pytest.raises(DownloadError, match="gives no sha256"):
        find_model("hf:org/repo")
    with pytest.raises(DigestMismatch):
        find_model(f"hf:org/repo#sha256={'0' * 64}")
    assert said(find_model(f"hf:org/repo#sha256={right}")) == "model-Q8_0.gguf"
