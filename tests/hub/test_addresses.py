"""Models from plain addresses: continued, kept, and only under their name when they are whole."""

from __future__ import annotations

import gc
import hashlib
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from llama_bridge import (
    AccessDenied,
    DigestMismatch,
    DownloadError,
    InvalidModel,
    ModelNotFound,
    RateLimited,
)
from llama_bridge.hub import transfer
from llama_bridge.hub.address_cache import kept_addresses
from llama_bridge.hub.answers import Answer
from llama_bridge.hub.find import find_model, pull_model
from llama_bridge.hub.looking import look_at
from llama_bridge.hub.transfer import Wanted
from llama_bridge.progress import Progress
from llama_bridge.testing.hub import HubServer

from .conftest import Heard, real

TOKEN = "hf_" + "SeCrEt" * 6


@pytest.fixture
def url(hub: HubServer) -> str:
    """The address of a model of 2.6 MB."""
    hub.add("org/repo", {"my model.gguf": real("mark")})
    return hub.address("org/repo", "my model.gguf")


def content(path: object) -> bytes:
    return Path(str(path)).read_bytes()


def kept() -> list[str]:
    return [path.name for _, path in kept_addresses()]


def test_a_name_that_is_longer_than_a_file_s_may_be_is_cut(hub: HubServer) -> None:
    name = "\u6a21\u578b" * 60 + ".gguf"  # 365 bytes
    hub.add("org/repo", {name: real("mark")})
    path = Path(str(find_model(hub.address("org/repo", name))))
    assert path.read_bytes() == real("mark")
    assert path.suffix == ".gguf"


def test_it_is_fetched_once_and_then_nobody_is_asked(
    hub: HubServer, url: str, heard: Heard
) -> None:
    path = find_model(url, heard)
    assert content(path) == real("mark")
    assert heard.stages() == ["download"]
    assert heard[-1].done == heard[-1].total == len(real("mark"))
    assert kept_addresses() == [(url, path)]
    heard.clear()
    asked = len(hub.asked)
    hub.close()
    assert find_model(url, heard) == path
    assert heard == []
    assert len(hub.asked) == asked


def test_no_token_is_sent(hub: HubServer, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    find_model(url)
    assert [a for a in hub.asked if "authorization" in a.headers] == []


def test_a_digest_in_the_address_is_checked(hub: HubServer, url: str) -> None:
    digest = hashlib.sha256(real("mark")).hexdigest()
    assert content(find_model(f"{url}#sha256={digest}")) == real("mark")
    with pytest.raises(DigestMismatch) as error:
        find_model(f"{url}#sha256={'0' * 64}")
    assert (error.value.expected, error.value.found) == ("0" * 64, digest)


def test_a_digest_in_the_address_finds_damage_on_the_way(hub: HubServer, url: str) -> None:
    name = f"{url}#sha256={hashlib.sha256(real('mark')).hexdigest()}"
    hub.fail("corrupt", path="/plain/*", after=2_000_000)
    with pytest.raises(DigestMismatch):
        find_model(name)
    assert kept() == []
    assert content(find_model(name)) == real("mark")


def test_it_is_continued_after_a_break(hub: HubServer, url: str) -> None:
    hub.fail("cut", path="/plain/*", after=1_000_000, times=transfer.TRIES + 2)
    hub.fail("no_ranges", path="/plain/*", times=transfer.TRIES + 1)
    with pytest.raises(DownloadError, match=r"1.0 MB have arrived"):
        find_model(url)
    assert kept() == []
    hub.faults.clear()
    assert content(find_model(url)) == real("mark")
    last = hub.downloads()[-1].headers
    assert last["range"] == "bytes=1000000-"
    assert last["if-range"] == f'"{hashlib.sha256(real("mark")).hexdigest()}"'


def test_a_file_that_changed_meanwhile_is_fetched_anew(
    hub: HubServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "TRIES", 0)
    hub.fail("stall", path="/plain/*", after=1_000_000, times=2)
    with pytest.raises(DownloadError):
        find_model(url)
    hub.faults.clear()
    hub.add("org/repo", {"my model.gguf": real("next")})
    assert content(find_model(url)) == real("next")


def test_a_file_that_changes_between_two_tries_of_one_run_is_fetched_anew(
    hub: HubServer, url: str
) -> None:
    hub.fail("cut", path="/plain/*", after=1_000_000)

    def changes(step: Progress) -> None:
        if step.done >= 1_000_000:
            hub.add("org/repo", {"my model.gguf": real("next")})

    assert content(find_model(url, changes)) == real("next")


def test_who_waits_for_another_fetch_of_it_is_told_and_can_end_that(
    hub: HubServer, url: str, heard: Heard
) -> None:
    hub.fail("slow", path="/plain/*", seconds=0.3, times=None)
    first = threading.Thread(target=find_model, args=(url, heard))
    first.start()
    while not heard:
        time.sleep(0.01)
    seen: list[Progress] = []

    def end(step: Progress) -> None:
        seen.append(step)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_model(url, end)
    assert first.is_alive()
    assert seen[0].stage == "download"
    hub.faults.clear()
    first.join(20)
    assert content(find_model(url)) == real("mark")


@pytest.mark.parametrize(
    ("header", "was", "is_now"),
    [("etag", '"before"', '"now"'), ("last-modified", "Thu, 01 Jan 2026", "Fri, 02 Jan 2026")],
)
def test_a_server_that_ignores_if_range_does_not_get_two_files_mixed(
    tmp_path: Path, header: str, was: str, is_now: str
) -> None:
    before, now = b"GGUF" + bytes(96), b"GGUF" + b"x" * 200
    part = tmp_path / "part"
    part.write_bytes(before[:50])

    @contextmanager
    def get(headers: Mapping[str, str]) -> Iterator[Answer]:
        start = int(headers.get("Range", "bytes=0-")[6:-1])
        said = {header: is_now, "content-length": str(len(now) - start)}
        said["content-range"] = f"bytes {start}-{len(now) - 1}/{len(now)}"
        yield Answer(206 if start else 200, said, iter([now[start:]]))

    transfer.receive(part, get, Wanted("x", validator=was), None)
    assert part.read_bytes() == now


def test_pull_asks_for_a_newer_one(hub: HubServer, url: str) -> None:
    find_model(url)
    n = len(hub.downloads())
    pull_model(url)
    assert len(hub.downloads()) == n + 1  # which was answered with: not modified
    assert hub.downloads()[-1].headers["if-none-match"]
    hub.add("org/repo", {"my model.gguf": real("next")})
    assert content(find_model(url)) == real("mark")
    assert content(pull_model(url)) == real("next")
    assert content(find_model(url)) == real("next")


def test_damage_on_the_disk_is_found_and_pull_mends_it(hub: HubServer, url: str) -> None:
    path = Path(str(find_model(url)))
    path.write_bytes(real("evil"))
    with pytest.raises(DigestMismatch, match="llama-bridge pull http"):
        find_model(url)
    assert pull_model(url) == path
    assert content(path) == real("mark")


@pytest.mark.parametrize(
    ("data", "kind", "found"),
    [
        (b"<!doctype html><title>Log in</title>", "a web page", "html"),
        (b"PK\x03\x04" + bytes(3_000_000), "a ZIP archive", "zip"),
        (bytes(3_000_000), "no GGUF file", ""),
    ],
)
def test_what_is_no_model_is_not_even_fetched(
    hub: HubServer, data: bytes, kind: str, found: str, heard: Heard
) -> None:
    hub.add("org/repo", {"page.gguf": data})
    with pytest.raises(InvalidModel, match=f"the server sends {kind}") as error:
        find_model(hub.address("org/repo", "page.gguf"), heard)
    assert error.value.found == found
    assert kept() == []
    assert heard[-1].done == 0


def test_a_damaged_model_is_not_kept(hub: HubServer, tmp_path: Path) -> None:
    hub.add("org/repo", {"half.gguf": real("mark")[:1_000_000]})
    with pytest.raises(InvalidModel, match="what the server sent: truncated"):
        find_model(hub.address("org/repo", "half.gguf"))
    assert kept() == []
    assert list(tmp_path.rglob("*.incomplete")) == []


def test_an_empty_file_is_refused(hub: HubServer) -> None:
    hub.add("org/repo", {"empty.gguf": b""})
    with pytest.raises(InvalidModel, match="what the server sent"):
        find_model(hub.address("org/repo", "empty.gguf"))
    assert kept() == []


def test_refusals_are_typed(hub: HubServer, url: str) -> None:
    with pytest.raises(ModelNotFound, match="no such file"):
        find_model(url + "x")
    for status in (401, 403):
        hub.fail("status", path="/plain/*", status=status)
        with pytest.raises(AccessDenied, match=f"status {status}"):
            find_model(url)
    hub.fail("status", path="/plain/*", status=429, headers={"Retry-After": "7"})
    with pytest.raises(RateLimited) as error:
        find_model(url)
    assert error.value.retry_after == 7
    assert content(find_model(url)) == real("mark")


@pytest.mark.parametrize(
    "path", ["/..%2f..%2fevil.gguf", "/%2e%2e/%2e%2e/x.gguf", "/a%5c..%5cb.gguf", "/%00.gguf", "/"]
)
def test_an_address_names_no_file_outside_its_folder(
    hub: HubServer, tmp_path: Path, path: str
) -> None:
    hub.add("org/repo", {"m.gguf": real("mark")})
    before = {*tmp_path.rglob("*")}
    with pytest.raises(ModelNotFound):
        find_model(hub.files_url + path)
    assert all(
        "downloads" in new.parts or new.suffix == "" for new in {*tmp_path.rglob("*")} - before
    )


def test_offline_mode_asks_nobody(
    hub: HubServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "true")
    with pytest.raises(DownloadError, match="offline mode"):
        find_model(url)
    assert hub.asked == []


def test_a_secret_in_an_address_is_not_written(hub: HubServer, url: str, tmp_path: Path) -> None:
    path = Path(str(find_model(f"{url}?signature=GEHEIM")))
    assert kept_addresses() == [(str(path), path)]
    assert not any(b"GEHEIM" in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


def test_a_server_that_is_not_there(hub: HubServer, url: str) -> None:
    hub.close()
    with pytest.raises(DownloadError, match="no connection to 127"):
        find_model(url)


@pytest.mark.parametrize("target", ["ftp://127.0.0.1:1/x.gguf", "file:///etc/hosts", "data:,x"])
def test_a_server_cannot_send_us_to_another_kind_of_address(
    hub: HubServer, url: str, target: str
) -> None:
    hub.fail("status", path="/plain/*", status=302, headers={"Location": target})
    with pytest.raises(DownloadError, match=r"sends us on to|status 302"):
        find_model(url)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # httpx leaves its socket behind
@pytest.mark.parametrize("to", ["http://x..y/m.gguf", "http://[::1", f"http://{'a' * 70}/x"])
def test_a_server_that_does_not_exist_in_any_spelling_is_named(
    hub: HubServer, url: str, to: str
) -> None:
    hub.fail("status", path="/plain/*", status=302, headers={"Location": to}, times=None)
    hub.fail("status", path="/org/*", status=302, headers={"Location": to}, times=None)
    for name in (url, "hf:org/repo", *[f"{to}#sha256={'0' * 64}"] * ("[" not in to)):
        for find in (find_model, look_at):
            with pytest.raises(DownloadError):
                find(name)
    gc.collect()  # here, not in another test


@pytest.mark.parametrize("seconds", ["99999999999", "9" * 400])
def test_a_wait_longer_than_a_system_can_wait_is_a_long_one(
    hub: HubServer, url: str, monkeypatch: pytest.MonkeyPatch, seconds: str
) -> None:
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", seconds)
    assert content(find_model(url)) == real("mark")


def test_a_server_may_send_us_on_and_round_in_circles_is_an_end(hub: HubServer, url: str) -> None:
    hub.fail("status", path="/plain/*", status=302, headers={"Location": url}, times=1)
    assert content(find_model(url)) == real("mark")
    hub.fail("status", path="/plain/*", status=302, headers={"Location": url}, times=None)
    with pytest.raises(DownloadError, match="status 302"):
        find_model(url + "?again")
