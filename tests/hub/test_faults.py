"""What can go wrong on the way: each time a typed error, what has arrived is kept, and nothing wrong is ever used."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from llama_bridge import (
    AccessDenied,
    BridgeError,
    DigestMismatch,
    DownloadError,
    ModelNotFound,
    NotEnoughSpace,
    Progress,
    RateLimited,
)
from llama_bridge.hub import transfer
from llama_bridge.hub.cache import hub_cache
from llama_bridge.hub.find import find_model, pull_model
from llama_bridge.testing.hub import HubServer

from .conftest import Heard, files_in, real

NAME = "hf:org/repo"
SECONDS = 60
FILE = "a-Q4_K_M.gguf"
TOKEN = "hf_" + "SeCrEt" * 6

FIND = "import sys; from llama_bridge.hub.find import find_model; print(find_model(sys.argv[1]))"


@pytest.fixture
def model(hub: HubServer) -> bytes:
    """A model of 2.6 MB, published."""
    data = real("mark")
    hub.add("org/repo", {FILE: data})
    return data


def ranges(hub: HubServer) -> list[str]:
    return [asked.headers.get("range", "") for asked in hub.downloads()]


def parts() -> list[str]:
    return [name for name in files_in(hub_cache()) if name.endswith(".incomplete")]


def blobs() -> list[str]:
    return [name for name in files_in(hub_cache()) if "/blobs/" in name]


# the connection


@pytest.mark.parametrize("after", [0, 1, 70_000, 2_600_000])
def test_a_connection_that_breaks_is_continued_where_it_broke(
    hub: HubServer, model: bytes, heard: Heard, after: int
) -> None:
    hub.fail("cut", path="/blob/*", after=after)
    path = find_model(NAME, heard)
    assert Path(str(path)).read_bytes() == model
    assert ranges(hub) == ["", f"bytes={after}-" if after else ""]
    done = [step.done for step in heard]
    assert done == sorted(done)
    assert done[-1] == heard[-1].total == len(model)


def test_it_is_continued_as_long_as_something_arrives(hub: HubServer, model: bytes) -> None:
    for i in range(3 * transfer.TRIES):
        hub.fail("cut", path="/blob/*", after=100_000 * (i + 1))
    assert Path(str(find_model(NAME))).read_bytes() == model


def test_a_server_that_sends_nothing_more_is_left_and_the_next_try_goes_on(
    hub: HubServer, model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "TRIES", 0)
    hub.fail("stall", path="/blob/*", after=1_000_000, times=2)
    with pytest.raises(DownloadError, match=r"sent nothing for 1 s; 1.0 MB have arrived") as error:
        find_model(NAME)
    assert (error.value.received, error.value.total) == (1_000_000, len(model))
    hub.faults.clear()
    assert Path(str(find_model(NAME))).read_bytes() == model
    assert ranges(hub)[-1] == "bytes=1000000-"
    assert parts() == []


def test_a_hub_that_does_not_answer_is_left(hub: HubServer, model: bytes) -> None:
    hub.fail("hang_up", path="/api/*", times=None)
    with pytest.raises(DownloadError, match="no connection"):
        find_model(NAME)


def test_a_server_that_cannot_send_a_part_starts_over(hub: HubServer, model: bytes) -> None:
    hub.fail("cut", path="/blob/*", after=1_000_000)
    hub.fail("no_ranges", path="/blob/*", times=None)
    assert Path(str(find_model(NAME))).read_bytes() == model


def test_a_server_that_always_breaks_at_the_same_byte_is_left(hub: HubServer, model: bytes) -> None:
    hub.fail("cut", path="/blob/*", after=1_000_000, times=None)
    hub.fail("no_ranges", path="/blob/*", times=None)
    with pytest.raises(DownloadError, match="no connection"):
        find_model(NAME)
    assert len(hub.downloads()) == transfer.TRIES + 2


@pytest.mark.parametrize("status", [500, 502, 503, 408])
def test_a_server_in_trouble_is_asked_again(hub: HubServer, model: bytes, status: int) -> None:
    hub.fail("status", path="/blob/*", status=status, times=2)
    assert Path(str(find_model(NAME))).read_bytes() == model


# what it sends


def test_a_damaged_file_is_refused_with_both_digests_and_leaves_nothing(
    hub: HubServer, model: bytes
) -> None:
    hub.fail("corrupt", path="/blob/*", after=1_234_567)
    with pytest.raises(DigestMismatch) as error:
        find_model(NAME)
    damaged = bytearray(model)
    damaged[1_234_567] ^= 1
    assert error.value.expected == hashlib.sha256(model).hexdigest()
    assert error.value.found == hashlib.sha256(damaged).hexdigest()
    assert error.value.expected in str(error.value)
    assert error.value.found in str(error.value)
    assert files_in(hub_cache()) == []
    assert Path(str(find_model(NAME))).read_bytes() == model


def test_what_an_earlier_try_left_damaged_is_fetched_again(hub: HubServer, model: bytes) -> None:
    digest = hashlib.sha256(model).hexdigest()
    part = hub_cache() / "models--org--repo" / "blobs" / f"{digest}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1_000_000)
    assert Path(str(find_model(NAME))).read_bytes() == model
    assert ranges(hub) == ["bytes=1000000-", ""]


@pytest.mark.parametrize("length", [0, 1, 2_640_224, 2_640_225, 5_000_000])
def test_whatever_is_in_its_place_the_file_is_right_in_the_end(
    hub: HubServer, model: bytes, length: int
) -> None:
    digest = hashlib.sha256(model).hexdigest()
    part = hub_cache() / "models--org--repo" / "blobs" / f"{digest}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(model[:length] + b"y" * (length - len(model)))
    assert Path(str(find_model(NAME))).read_bytes() == model
    assert parts() == []


@pytest.mark.parametrize("kind", ["longer", "shorter"])
def test_another_length_than_promised_is_refused(hub: HubServer, model: bytes, kind: str) -> None:
    hub.fail("longer" if kind == "longer" else "shorter", path="/blob/*")
    with pytest.raises(DownloadError, match=r"bytes of it, but 2,640,224 were promised"):
        find_model(NAME)
    assert blobs() in ([], parts())
    assert Path(str(find_model(NAME))).read_bytes() == model


def test_a_server_that_never_stops_is_stopped_at_what_was_promised(
    hub: HubServer, model: bytes
) -> None:
    hub.fail("endless", path="/blob/*")
    with pytest.raises(DownloadError, match="more than the 2,640,224 bytes that it promised"):
        find_model(NAME)
    assert arrived() <= len(model)
    assert Path(str(find_model(NAME))).read_bytes() == model


def test_a_link_in_its_place_is_not_followed(hub: HubServer, model: bytes, tmp_path: Path) -> None:
    digest = hashlib.sha256(model).hexdigest()
    part = hub_cache() / "models--org--repo" / "blobs" / f"{digest}.incomplete"
    part.parent.mkdir(parents=True)
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    part.symlink_to(precious)
    with pytest.raises(DownloadError, match="cannot be written"):
        find_model(NAME)
    assert precious.read_bytes() == b"mine"


@pytest.mark.parametrize("path", ["../../evil.gguf", "/evil.gguf", "a/../../b.gguf", "a\\b.gguf"])
def test_a_path_that_leads_out_of_the_cache_does_not_exist(
    hub: HubServer, path: str, tmp_path: Path
) -> None:
    hub.add("org/repo", {path: b"evil"})
    with pytest.raises(ModelNotFound, match="no GGUF file"):
        find_model(NAME)
    assert not list(tmp_path.rglob("*.gguf"))


def test_a_server_that_is_no_hub_is_named(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/repo", {FILE: b"x"})
    (commit,) = hub.repos["org/repo"].files
    hub.repos["org/repo"].commits["main"] = "no commit"
    hub.repos["org/repo"].files["no commit"] = hub.repos["org/repo"].files[commit]
    with pytest.raises(DownloadError, match=r"does not answer like the hub.*HF_ENDPOINT"):
        find_model(NAME)


# what it refuses


def test_a_private_repository_needs_a_token_which_goes_to_the_hub_only(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    hub.add("org/repo", {FILE: b"content"}, token=TOKEN)
    with pytest.raises(AccessDenied, match=r"or it is private.*HF_TOKEN") as error:
        find_model(NAME)
    assert error.value.status == 401
    monkeypatch.setenv("HF_TOKEN", TOKEN[::-1])
    with pytest.raises(AccessDenied, match="token is not valid") as error:
        find_model(NAME)
    assert TOKEN[::-1] not in str(error.value)
    monkeypatch.setenv("HF_TOKEN", f" {TOKEN}\n")
    assert Path(str(find_model(NAME))).read_bytes() == b"content"
    sent = {asked.server for asked in hub.asked if TOKEN in asked.headers.get("authorization", "")}
    assert sent == {"hub"}
    assert all(TOKEN not in str(asked) for asked in hub.downloads())
    assert TOKEN not in caplog.text
    assert TOKEN[::-1] not in caplog.text


def test_a_token_is_neither_written_nor_repeated(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/repo", {FILE: b"content"}, token=TOKEN)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    find_model(NAME)
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or TOKEN.encode() not in path.read_bytes()
    for bad in (f"{TOKEN}\x00", f"{TOKEN} x", "geheim\u00fc"):
        monkeypatch.setattr(
            "llama_bridge.hub.client.get_token", lambda bad=bad: bad
        )  # which a file may hold; the environment takes no NUL
        with pytest.raises(AccessDenied, match="characters that no token has") as error:
            pull_model(NAME)
        assert TOKEN not in str(error.value)
        assert "geheim" not in str(error.value)


@pytest.mark.parametrize("token", ["", "hf_" + "o" * 34])
def test_a_gated_repository_says_where_its_terms_are_accepted(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    hub.add("org/repo", {FILE: b"content"}, token=TOKEN, gated=True)
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(AccessDenied, match=f"accept them at {hub.url}/org/repo") as error:
        find_model(NAME)
    assert ("HF_TOKEN" in str(error.value)) == (token == "")


def test_a_gated_file_in_a_repository_that_lists_it(hub: HubServer, model: bytes) -> None:
    hub.fail("status", path="/org/*", status=403, headers={"X-Error-Code": "GatedRepo"})
    with pytest.raises(AccessDenied, match="accept them at"):
        find_model(NAME)
    hub.fail("status", path="/org/*", status=403)
    with pytest.raises(AccessDenied, match="may not read org/repo"):
        find_model(NAME)
    hub.fail("status", path="/org/*", status=404, headers={"X-Error-Code": "EntryNotFound"})
    with pytest.raises(ModelNotFound, match="no such file"):
        find_model(NAME)


@pytest.mark.parametrize("path", ["/api/*", "/blob/*"])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "300"}, 300),
        ({"RateLimit": '"api";r=0;t=55'}, 55),
        ({"Retry-After": "Thu, 01 Jan 1998 00:00:00 GMT"}, 0),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ],
)
def test_too_many_requests_say_when_to_try_again_and_do_not_wait(
    hub: HubServer, model: bytes, path: str, headers: dict[str, str], seconds: float | None
) -> None:
    hub.fail("status", path=path, status=429, headers=headers)
    start = time.monotonic()
    with pytest.raises(RateLimited, match="try again in") as error:
        find_model(NAME)
    assert error.value.retry_after == seconds
    assert time.monotonic() - start < 2
    assert Path(str(find_model(NAME))).read_bytes() == model


@pytest.mark.parametrize("status", [400, 405, 418, 451, 500, 503])
def test_any_other_refusal_names_the_status(hub: HubServer, model: bytes, status: int) -> None:
    hub.fail("status", path="/api/*", status=status)
    with pytest.raises(DownloadError, match=f"status {status}") as error:
        find_model(NAME)
    assert error.value.status == status


# the disk


def test_what_does_not_fit_is_refused_before_it_is_fetched(hub: HubServer, model: bytes) -> None:
    files = next(iter(hub.repos["org/repo"].files.values()))
    files[FILE] = replace(files[FILE], size=1 << 60)
    with pytest.raises(NotEnoughSpace, match="make room, or set HF_HUB_CACHE") as error:
        find_model(NAME)
    assert error.value.needed == 1 << 60
    assert 0 < error.value.free < 1 << 60
    assert sum((hub_cache() / name).stat().st_size for name in parts()) == 0


def test_a_disk_that_gets_full_on_the_way_is_left_clean(hub: HubServer, model: bytes) -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "from llama_bridge import NotEnoughSpace\n"
        "from llama_bridge.hub.find import find_model\n"
        "try: find_model('hf:org/repo')\n"
        "except NotEnoughSpace as error: print(error.needed)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=True
    )
    assert int(done.stdout) == len(model) - (1 << 20)
    assert blobs() == []
    assert Path(str(find_model(NAME))).read_bytes() == model


def test_a_file_in_place_of_the_cache_says_so(hub: HubServer, model: bytes) -> None:
    hub_cache().parent.mkdir(parents=True)
    hub_cache().write_text("in the way")
    with pytest.raises(DownloadError, match="cannot be written"):
        find_model(NAME)


def test_a_cache_that_may_only_be_read_is_read(hub: HubServer, model: bytes) -> None:
    path = find_model(NAME)
    for folder, _, _ in os.walk(hub_cache()):
        os.chmod(folder, 0o555)
    assert find_model(NAME) == path


# interrupts


def test_what_on_progress_raises_ends_it_and_the_next_try_goes_on(
    hub: HubServer, model: bytes
) -> None:
    class Enough(Exception):
        pass

    def stop(step: Progress) -> None:
        if step.done > 1_000_000:
            raise Enough

    hub.fail("slow", path="/blob/*", seconds=0.06, times=None)
    with pytest.raises(Enough):
        find_model(NAME, stop)
    assert len(parts()) == 1
    hub.faults.clear()
    assert Path(str(find_model(NAME))).read_bytes() == model
    assert ranges(hub)[-1].startswith("bytes=1")


def until(check: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def arrived() -> int:
    try:
        return sum((hub_cache() / name).stat().st_size for name in parts())
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_it_goes_on_after_the_process_was_killed(
    hub: HubServer, model: bytes, how: signal.Signals
) -> None:
    hub.fail("stall", path="/blob/*", after=1_500_000)
    process = subprocess.Popen(
        [sys.executable, "-c", FIND, NAME], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    with process:
        try:
            until(lambda: arrived() == 1_500_000)
        finally:
            process.send_signal(how)
        process.communicate(timeout=SECONDS)
    assert process.returncode != 0
    assert not any(name for name in blobs() if not name.endswith(".incomplete"))
    assert Path(str(find_model(NAME))).read_bytes() == model
    assert ranges(hub) == ["", "bytes=1500000-"]
    assert parts() == []


def test_two_processes_fetch_it_once_and_both_have_it(
    hub: HubServer, model: bytes, heard: Heard
) -> None:
    hub.fail("slow", path="/blob/*", seconds=0.02, times=None)
    others = [
        subprocess.Popen([sys.executable, "-c", FIND, NAME], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    until(lambda: hub.downloads())
    path = find_model(NAME, heard)
    assert [each.communicate(timeout=SECONDS)[0].strip() for each in others] == [str(path)] * 2
    assert len(hub.downloads()) == 1
    assert heard.stages() == ["download"]  # how far the other is
    assert len({step.done for step in heard}) > 2


def test_threads_fetch_it_once(hub: HubServer, model: bytes) -> None:
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(find_model(NAME))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert len(found) == 5
    assert len({*map(str, found)}) == 1
    assert len(hub.downloads()) == 1


def test_huggingface_hub_waits_for_us_as_we_do_for_it(hub: HubServer, model: bytes) -> None:
    hub.fail("slow", path="/blob/*", seconds=0.02, times=None)
    code = (
        "import sys; from huggingface_hub import hf_hub_download\n"
        f"print(hf_hub_download('org/repo', '{FILE}'))"
    )
    ours = subprocess.Popen([sys.executable, "-c", FIND, NAME], stdout=subprocess.PIPE, text=True)
    until(lambda: hub.downloads())
    theirs = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=True
    )
    assert ours.communicate(timeout=SECONDS)[0] == theirs.stdout
    assert len(hub.downloads()) == 1


def test_every_error_on_the_way_leaves_no_wrong_file(hub: HubServer, model: bytes) -> None:
    """Whatever goes wrong at whichever byte, what is called by the digest has that digest."""
    for after in (0, 1, 65_536, len(model) - 1):
        for kind in ("cut", "corrupt", "longer", "shorter"):
            hub.fail(kind, path="/blob/*", after=after)
            with contextlib.suppress(BridgeError):
                pull_model(NAME)
            for name in blobs():
                if not name.endswith(".incomplete"):
                    data = (hub_cache() / name).read_bytes()
                    assert hashlib.sha256(data).hexdigest() == Path(name).name
            hub.faults.clear()
            for name in blobs():
                (hub_cache() / name).unlink(missing_ok=True)
