"""A model's header from a server: enough to tell what it is, never the model, and nothing is kept."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from llama_bridge import (
    AccessDenied,
    DownloadError,
    InvalidInput,
    InvalidModel,
    ModelError,
    ModelNotFound,
    RateLimited,
)
from llama_bridge.hub import beginning, patience
from llama_bridge.hub.answers import Answer
from llama_bridge.hub.find import find_model
from llama_bridge.hub.looking import Looked, look_at
from llama_bridge.models.source import open_model
from llama_bridge.testing.hub import HubServer
from tests.models.headers import gguf, strings, u32

from .conftest import files_in, real

NAME = "hf:org/repo"
FILE = "a-Q4_K_M.gguf"


@pytest.fixture
def model(hub: HubServer) -> bytes:
    """A model of 2.6 MB, published."""
    data = real("mark")
    hub.add("org/repo", {FILE: data, "a-Q8_0.gguf": real("mine")})
    return data


def kept(folder: Path) -> list[str]:
    """All files there but those that were there before."""
    return [name for name in files_in(folder) if "/compiled/" not in name]


def received(looked: Looked) -> int:
    assert not looked.is_here
    return looked.received


@pytest.mark.parametrize(
    "name",
    [
        NAME,
        "hf:org/repo:Q4_K_M",
        f"hf:org/repo/{FILE}@main",
        "hf.co/org/repo",
        "https://huggingface.co/org/repo",
        "org/repo:q4_k_m",
    ],
)
def test_every_form_of_a_name_on_the_hub(
    hub: HubServer, model: bytes, tmp_path: Path, name: str
) -> None:
    looked = look_at(name)
    assert looked.model.name == "llama-bridge mark"
    assert looked.model.header.file_size == len(model)
    assert look_at(looked.name).model.header == looked.model.header
    assert received(looked) < 200_000
    assert kept(tmp_path) == []


def test_an_address(hub: HubServer, model: bytes, tmp_path: Path) -> None:
    looked = look_at(hub.address("org/repo", FILE))
    assert looked.model.name == "llama-bridge mark"
    assert looked.model.path == Path(FILE)
    assert received(looked) < 200_000
    assert kept(tmp_path) == []


def test_only_a_part_is_asked_for(hub: HubServer, model: bytes) -> None:
    look_at(NAME)
    assert [a.headers["range"] for a in hub.downloads()] == ["bytes=0-262143"]


def test_a_server_that_cannot_send_parts_is_left_after_the_header(
    hub: HubServer, model: bytes
) -> None:
    hub.fail("no_ranges", path="/blob/*", times=None)
    hub.fail("slow", path="/blob/*", times=None, seconds=0.2)  # 40 pieces would take 8 s
    begun = time.monotonic()
    assert received(look_at(NAME)) < 400_000
    assert time.monotonic() - begun < 4
    assert len(hub.downloads()) == 1


def test_a_server_that_says_no_length_and_never_stops_is_left(hub: HubServer, model: bytes) -> None:
    hub.fail("endless", path="*.gguf", times=None)
    looked = look_at(hub.address("org/repo", FILE))
    assert received(looked) < 400_000
    assert 0 <= len(model) - looked.model.header.file_size < 32


def test_what_is_on_this_disk_is_not_asked_for(hub: HubServer, model: bytes) -> None:
    path = find_model(NAME)
    address = find_model(hub.address("org/repo", FILE))
    hub.asked.clear()
    looked = look_at(NAME)
    assert looked.is_here
    assert looked.model.path == path
    assert look_at(hub.address("org/repo", FILE)).model.path == address
    assert hub.asked == []


def test_a_path_and_the_demo_are_as_they_are(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(real("path"))
    looked = look_at(str(tmp_path / "m.gguf"))
    assert looked.is_here
    assert looked.model.name == "llama-bridge path"
    assert look_at("demo").is_here
    assert hub.asked == []
    with pytest.raises(ModelNotFound):
        look_at(str(tmp_path / "none.gguf"))
    with pytest.raises(InvalidInput):
        look_at("ftp://example.org/x.gguf")


def test_a_long_header_is_fetched_in_growing_parts(hub: HubServer) -> None:
    words = strings([b"word %d" % i for i in range(200_000)])
    data = gguf(("llama.context_length", u32(64)), ("tokenizer.ggml.tokens", words))
    hub.add("org/repo", {FILE: data + bytes(5_000_000)})
    looked = look_at(NAME)
    assert looked.model.header.n_vocab == 200_000
    assert len(data) <= received(looked) < 2.2 * len(data)
    assert len(hub.downloads()) < 8


# what goes wrong


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, AccessDenied),
        (403, AccessDenied),
        (404, ModelNotFound),
        (410, ModelNotFound),
        (429, RateLimited),
        (418, DownloadError),
    ],
)
def test_refusals_are_those_of_a_download(
    hub: HubServer, model: bytes, status: int, kind: type[Exception]
) -> None:
    hub.fail("status", path="*.gguf", status=status, times=None, headers={"Retry-After": "7"})
    for name in (NAME, hub.address("org/repo", FILE)):
        with pytest.raises(kind) as caught:
            look_at(name)
        if isinstance(caught.value, RateLimited):
            assert caught.value.retry_after == 7


def test_a_gated_repository_says_where_its_terms_are(hub: HubServer) -> None:
    hub.add("org/repo", {FILE: real("gate")}, token="hf_" + "x" * 20, gated=True)
    with pytest.raises(AccessDenied, match="accept them at"):
        look_at(NAME)


@pytest.mark.parametrize("after", [0, 1, 20_000])
def test_a_connection_that_breaks_goes_on(hub: HubServer, model: bytes, after: int) -> None:
    hub.fail("cut", path="/blob/*", after=after)
    assert look_at(NAME).model.name == "llama-bridge mark"
    ranges = [a.headers["range"].partition("-")[0] for a in hub.downloads()]
    assert ranges == ["bytes=0", f"bytes={after}"]


def test_a_connection_that_breaks_goes_on_without_parts_too(hub: HubServer, model: bytes) -> None:
    hub.fail("cut", path="/blob/*", after=20_000)
    hub.fail("no_ranges", path="/blob/*", times=None)
    assert look_at(NAME).model.header == open_model(find_model(NAME)).header


@pytest.mark.parametrize("kind", ["cut", "hang_up"])
def test_a_server_that_never_sends_is_left(hub: HubServer, model: bytes, kind: str) -> None:
    for path in ("/blob/*", "/plain/*"):
        hub.fail("cut" if kind == "cut" else "hang_up", path=path, after=0, times=None)
    for name in (NAME, hub.address("org/repo", FILE)):
        with pytest.raises(DownloadError, match=r"no connection|ended early"):
            look_at(name)
    assert 4 <= len(hub.downloads()) <= 12


def test_a_server_that_trickles_is_left_in_time(
    hub: HubServer, model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "SECONDS", 1.0)
    words = strings([b"word %d" % i for i in range(200_000)])
    hub.add("org/repo", {FILE: gguf(("llama.context_length", u32(64)), ("w", words))})
    hub.fail("slow", path="/blob/*", times=None, seconds=0.3)
    begun = time.monotonic()
    with pytest.raises(DownloadError, match="not arrived within 1 s"):
        look_at(NAME)
    assert time.monotonic() - begun < 4


@contextmanager
def dripping(beginning_of_answer: bytes) -> Iterator[str]:
    """A server that sends the rest of its answer's first lines byte by byte, and never the last; its address."""
    left = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.sendall(beginning_of_answer)
            while not left.wait(0.02):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(8) as pool:
        server.settimeout(0.1)

        def accept() -> None:
            while not left.is_set():
                with suppress(TimeoutError):
                    pool.submit(serve, server.accept()[0])

        pool.submit(accept)
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            left.set()


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 O", b"HTTP/1.1 200 OK\r\nX-Long: "])
@pytest.mark.parametrize("on_hub", [True, False])
def test_a_server_that_drips_its_first_lines_is_left_in_time(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, start: bytes, on_hub: bool
) -> None:
    monkeypatch.setattr(patience, "SECONDS", 0.6)
    with dripping(start) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        begun = time.monotonic()
        with pytest.raises(DownloadError, match=r"not arrived within 0\.6 s"):
            look_at(NAME if on_hub else f"{address}/m.gguf")
        assert time.monotonic() - begun < 3


def test_a_file_whose_server_drips_its_first_lines_is_left_in_time(
    hub: HubServer, model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dripping(b"HTTP/1.1 206 Partial Content\r\nX-Long: ") as address:
        hub.files_url = address
        monkeypatch.setattr(patience, "SECONDS", 0.6)
        with pytest.raises(DownloadError, match=r"its header has not arrived within 0\.6 s"):
            look_at(NAME)


def test_a_server_that_stalls_is_left(
    hub: HubServer, model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "0.2")
    hub.fail("stall", path="/blob/*", times=None, after=1000)
    with pytest.raises(DownloadError, match="has sent nothing"):
        look_at(NAME)


def test_another_size_than_the_hub_promised(hub: HubServer, model: bytes) -> None:
    hub.fail("longer", path="/blob/*", times=None)
    with pytest.raises(DownloadError, match="were promised"):
        look_at(NAME)


def test_a_file_that_is_shorter_than_its_tensors_is_truncated(hub: HubServer, model: bytes) -> None:
    hub.add("org/repo", {FILE: model[:1_000_000]})
    with pytest.raises(InvalidModel, match="truncated"):
        look_at(NAME)


@pytest.mark.parametrize(
    "content", [b"", b"<!DOCTYPE html><html>log in</html>", b"GGUF", b"\0" * 70_000]
)
def test_what_is_no_model_is_told(hub: HubServer, content: bytes) -> None:
    hub.add("org/repo", {FILE: content})
    for name in (NAME, hub.address("org/repo", FILE)):
        with pytest.raises(InvalidModel):
            look_at(name)


def test_a_header_without_an_end_is_refused_after_a_bound(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beginning, "MOST", 1 << 20)
    huge = struct.pack("<IIQ", 9, 0, 200 << 20)  # an array of 200 MB
    hub.add("org/repo", {FILE: gguf(("llama.context_length", u32(64)), ("x", huge), ("y", u32(1)))})
    hub.fail("endless", path="/plain/*", times=None)
    with pytest.raises(InvalidModel, match="header is longer than"):
        look_at(hub.address("org/repo", FILE))
    with pytest.raises(InvalidModel, match="truncated"):  # where the size is known
        look_at(NAME)


def test_a_file_that_changes_meanwhile_is_not_mixed(
    hub: HubServer, model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beginning, "_FIRST", 1000)
    changed: list[float] = []
    hub.fail("cut", path="/plain/*", after=500)

    def sleep(seconds: float) -> None:
        changed.append(seconds)
        hub.add("org/repo", {FILE: real("next")})

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=sleep)  # other threads sleep, too
    monkeypatch.setattr(beginning, "time", clock)
    with pytest.raises(DownloadError, match="changed on the server"):
        look_at(hub.address("org/repo", FILE))
    assert len(changed) == 1


@pytest.mark.parametrize(
    "said",
    [
        "206 X\r\nContent-Range: bytes 0-99/" + "9" * 6000,
        "206 X\r\nContent-Range: bytes 5-99/2000",
        "206 X\r\nContent-Range: bytes 0-99/50",
        "206 X\r\nContent-Range: \xb2",
        "206 X",
        "200 X\r\nContent-Length: \xb2",
        "200 X\r\nContent-Length: " + "9" * 6000,
        "200 X\r\nContent-Length: 0",
        "200 X\r\nContent-Encoding: gzip",
        "416 X\r\nContent-Range: bytes */0",
        "429 X\r\nRetry-After: \xb2",
        "302 X\r\nLocation: file:///etc/hostname",
        "302 X\r\nLocation: /again",
        "99999 X",
        "nonsense",
    ],
)
def test_answers_that_nobody_should_give(hub: HubServer, said: str) -> None:
    """Each is an error of ours; none hangs, and none is taken for a model."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.recv(65_536)
                    connection.sendall(f"HTTP/1.1 {said}\r\n\r\nGGUF".encode("latin-1"))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with pytest.raises(ModelError):
                look_at(f"http://127.0.0.1:{server.getsockname()[1]}/x.gguf")
        finally:
            done.set()
            thread.join()


def test_two_at_once_and_a_loss_of_patience(
    hub: HubServer, model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(look_at, [NAME, hub.address("org/repo", FILE)] * 8))
    assert {looked.model.name for looked in found} == {"llama-bridge mark"}

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(beginning.Beginning, "_check_time", interrupt)
    for name in (NAME, hub.address("org/repo", FILE)):
        with pytest.raises(KeyboardInterrupt):
            look_at(name)


def test_offline_nobody_is_asked(
    hub: HubServer, model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in (NAME, hub.address("org/repo", FILE)):
        with pytest.raises(DownloadError, match="offline"):
            look_at(name)
    assert hub.asked == []


def test_a_token_is_not_sent_to_the_server_of_the_files(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "hf_" + "SeCrEt" * 6
    monkeypatch.setenv("HF_TOKEN", token)
    hub.add("org/repo", {FILE: real("priv")}, token=token)
    assert look_at(NAME).model.name == "llama-bridge priv"
    assert all("authorization" not in a.headers for a in hub.downloads())


def test_a_missing_file_lists_what_there_is(hub: HubServer, model: bytes) -> None:
    with pytest.raises(ModelNotFound) as caught:
        look_at("hf:org/repo:Q2_K")
    assert caught.value.there == (f"hf:org/repo/{FILE}", "hf:org/repo/a-Q8_0.gguf")


def test_facts_of_a_model_on_a_server_are_those_of_its_file(
    hub: HubServer, model: bytes, tmp_path: Path
) -> None:
    from click.testing import CliRunner

    from llama_bridge.cli.app import app

    def facts(name: str) -> dict[str, object]:
        result = CliRunner().invoke(app, ["info", name, "--json"])
        assert result.exit_code == 0, result.output
        found: dict[str, object] = json.loads(result.stdout)
        return found

    (tmp_path / "m.gguf").write_bytes(model)
    far, near = facts(NAME), facts(str(tmp_path / "m.gguf"))
    assert (far["on_disk"], near["on_disk"]) == (False, True)
    assert far["path"] is None
    assert isinstance(far["fetched"], int)
    assert 0 < far["fetched"] < 200_000
    places = {"path", "on_disk", "loads_by", "fetched", "machine"}
    same = {key: value for key, value in far.items() if key not in places}
    assert same == {key: value for key, value in near.items() if key not in places}
    result = CliRunner().invoke(app, ["info", NAME])
    assert "not on this disk" in result.stdout
    assert f"llama-bridge pull hf:org/repo/{FILE} fetches it" in result.output


def test_a_server_that_sends_less_than_asked_for_is_asked_for_the_rest_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = real("mark")
    monkeypatch.setattr(beginning, "time", SimpleNamespace(monotonic=time.monotonic))  # no sleep

    @contextmanager
    def get(headers: Mapping[str, str]) -> Iterator[Answer]:
        start = int(headers["Range"].removeprefix("bytes=").partition("-")[0])
        end = min(start + 5000, len(data))
        said = f"bytes {start}-{end - 1}/{len(data)}"
        yield Answer(206, {"content-range": said}, iter([data[start:end]]))

    with beginning.Beginning("x", get) as file:
        assert b"".join(iter(lambda: file.read(30_000), b"")) == data
        assert file.seek(0, 2) == len(data)
