"""The server of pages and their tests: parts of files, headers, and nothing outside its folder."""

from __future__ import annotations

from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tools.browser.server import CSP, serve

DATA = bytes(range(256))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "site" / "index.html").write_text("<!doctype html>")
    (tmp_path / "site" / "m.gguf").write_bytes(DATA)
    (tmp_path / "site" / "code.mjs").write_text("")
    (tmp_path / "site" / "llama.wasm").write_bytes(b"\0asm")
    return tmp_path / "site"


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    with serve(folder) as address:
        yield address


def ask(address: str, path: str = "m.gguf", method: str = "GET", **headers: str) -> HTTPResponse:
    """The answer, read to its end into ``.body``."""
    connection = HTTPConnection(urlsplit(address).netloc, timeout=10)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, f"/{path}", headers=named)
    answer = connection.getresponse()
    answer.body = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


def body(answer: HTTPResponse) -> bytes:
    data: bytes = answer.body  # type: ignore[attr-defined]
    return data


def test_pages_are_isolated_and_run_no_inline_script(address: str) -> None:
    for path in ("", "m.gguf", "nowhere"):
        headers = ask(address, path).headers
        assert headers["Content-Security-Policy"] == CSP
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert "unsafe-inline" not in CSP


def test_what_a_test_wants_without_is_left_out(folder: Path) -> None:
    with serve(folder, csp="", isolated=False, ranges=False) as address:
        answer = ask(address, Range="bytes=3-5")
    assert (answer.status, body(answer)) == (200, DATA)
    assert answer.headers["Accept-Ranges"] == "none"
    assert "Content-Security-Policy" not in answer.headers
    assert "Cross-Origin-Opener-Policy" not in answer.headers


@pytest.mark.parametrize(
    ("path", "kind"),
    [("", "text/html"), ("code.mjs", "text/javascript"), ("llama.wasm", "application/wasm")],
)
def test_types_are_what_browsers_insist_on(address: str, path: str, kind: str) -> None:
    assert ask(address, path).headers["Content-Type"] == kind


@pytest.mark.parametrize(
    ("asked", "part", "told"),
    [
        ("bytes=3-5", DATA[3:6], "bytes 3-5/256"),
        ("bytes=250-", DATA[250:], "bytes 250-255/256"),
        ("bytes=250-9999", DATA[250:], "bytes 250-255/256"),
        ("bytes=-4", DATA[-4:], "bytes 252-255/256"),
        ("bytes=-9999", DATA, "bytes 0-255/256"),
    ],
)
def test_a_part_of_a_file(address: str, asked: str, part: bytes, told: str) -> None:
    answer = ask(address, Range=asked)
    assert (answer.status, body(answer)) == (206, part)
    assert answer.headers["Content-Range"] == told
    assert answer.headers["Content-Length"] == str(len(part))


@pytest.mark.parametrize("asked", ["bytes=256-", "bytes=9-3", "bytes=-0"])
def test_a_part_that_is_not_there(address: str, asked: str) -> None:
    answer = ask(address, Range=asked)
    assert (answer.status, body(answer)) == (416, b"")
    assert answer.headers["Content-Range"] == "bytes */256"


@pytest.mark.parametrize("asked", ["bytes=-", "lines=1-2", "bytes=1-2,5-6", "bytes=x"])
def test_a_range_that_is_none_gets_the_whole_file(address: str, asked: str) -> None:
    assert (ask(address, Range=asked).status, body(ask(address, Range=asked))) == (200, DATA)


def test_a_file_that_has_changed_is_sent_anew(address: str, folder: Path) -> None:
    tag = ask(address).headers["ETag"]
    assert ask(address, If_None_Match=tag).status == 304
    assert ask(address, Range="bytes=3-5", If_Range=tag).status == 206
    (folder / "m.gguf").write_bytes(DATA + b"more")
    assert ask(address, If_None_Match=tag).status == 200
    assert body(ask(address, Range="bytes=3-5", If_Range=tag)) == DATA + b"more"


def test_head_has_no_body(address: str) -> None:
    answer = ask(address, method="HEAD")
    assert (answer.status, body(answer)) == (200, b"")
    assert answer.headers["Content-Length"] == "256"


@pytest.mark.parametrize("path", ["../secret", "%2e%2e/secret", "..%2fsecret", "//secret", "nix"])
def test_nothing_else_is_served(address: str, path: str) -> None:
    assert ask(address, path).status == 404
