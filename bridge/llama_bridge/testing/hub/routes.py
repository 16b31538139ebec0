"""The hub's routes, as far as anyone needs them to find and fetch a file.

.. code-block:: text

    /api/models/{repo}                              the state of main
    /api/models/{repo}/revision/{revision}          of a revision; ?blobs=true with sizes and digests
    /api/models/{repo}/tree/{revision}              the files
    /api/models/{repo}/refs                         branches and their commits
    /{repo}/resolve/{revision}/{path}               sends on to the server of the files
    /blob/{repo}/{commit}/{path}  on that server    the file, whole or from a byte on
    /plain/{repo}/{revision}/{path}  on that server the same, without the hub's headers
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, quote, unquote, urlsplit

if TYPE_CHECKING:
    from .server import File, HubServer, Repo

__all__ = ["Handler"]

_PIECE = 1 << 16
_REPO = r"(?P<repo>[^/]+/[^/]+)"
_API = re.compile(
    rf"/api/models/{_REPO}(?:/(?P<what>revision|tree|refs)(?:/(?P<revision>[^/]+))?)?"
)
_RESOLVE = re.compile(rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_CONTENT = re.compile(rf"/(?P<kind>blob|plain)/{_REPO}/(?P<revision>[^/]+)/(?P<path>.+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_DATE = "Thu, 01 Jan 2026 00:00:00 GMT"


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"

    @property
    def _hub(self) -> HubServer:
        return cast("HubServer", cast("Any", self.server).hub)

    def setup(self) -> None:
        """Note the connection, so that the server can end it."""
        super().setup()
        self._hub.connections.add(self.connection)

    def finish(self) -> None:
        """The connection is over."""
        self._hub.connections.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """Tests are quiet."""

    def do_HEAD(self) -> None:
        """Answer without a body."""
        self._answer()

    def do_OPTIONS(self) -> None:
        """A page asks whether it may: any page may, as with the real hub."""
        self.send_response(204)
        self.send_header("Access-Control-Allow-Headers", "range, if-range")
        self.end_headers()

    def end_headers(self) -> None:
        """Let pages of other servers read the answer."""
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Expose-Headers", "*")
        super().end_headers()

    def do_GET(self) -> None:
        """Answer."""
        self._answer()

    def _answer(self) -> None:
        from .server import Asked  # it has no other way to here than a circle

        headers = {key.lower(): value for key, value in self.headers.items()}
        kind = cast("Any", self.server).kind
        self._hub.asked.append(Asked(self.command, self.path, headers, kind))
        parts = urlsplit(self.path)
        fault = self._hub.faults.take(parts.path, ("status", "hang_up"))
        if fault is not None and fault.kind == "hang_up":
            self.close_connection = True
            return
        if fault is not None:
            self._refuse(fault.status, **fault.headers)
        elif kind == "hub" and (match := _API.fullmatch(parts.path)):
            self._api(match, parse_qs(parts.query))
        elif kind == "hub" and (match := _RESOLVE.fullmatch(parts.path)):
            self._resolve(match)
        elif kind == "files" and (match := _CONTENT.fullmatch(parts.path)):
            self._content(match)
        else:
            self._refuse(404)

    def _api(self, match: re.Match[str], query: dict[str, list[str]]) -> None:
        repo = self._repo(match["repo"])
        if repo is None:
            return
        if match["what"] == "refs":
            branches = [{"name": n, "targetCommit": c} for n, c in repo.commits.items()]
            self._json({"branches": branches, "tags": [], "converts": []})
            return
        commit = self._commit(repo, match["revision"] or "main")
        if commit is None:
            return
        files = sorted(repo.files[commit].items())
        if match["what"] == "tree":
            self._json([{"type": "file", "path": path, **file.facts} for path, file in files])
            return
        self._json(self._hub.state_of(match["repo"], commit, blobs="blobs" in query))

    def _resolve(self, match: re.Match[str]) -> None:
        repo = self._repo(match["repo"])
        commit = None if repo is None else self._commit(repo, match["revision"])
        if repo is None or commit is None:
            return
        path = unquote(match["path"])
        file = repo.files[commit].get(path)
        if file is None:
            self._refuse(404, **{"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        self.send_response(302)
        self.send_header(
            "Location", f"{self._hub.files_url}/blob/{match['repo']}/{commit}/{quote(path)}"
        )
        self.send_header("X-Repo-Commit", commit)
        self.send_header("X-Linked-Size", str(file.size))
        self.send_header("X-Linked-Etag", f'"{file.sha256}"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _content(self, match: re.Match[str]) -> None:
        repo = self._hub.repos.get(match["repo"])
        revision = unquote(match["revision"])
        commit = repo and (repo.commits.get(revision) or revision)
        file = repo.files.get(commit or "", {}).get(unquote(match["path"])) if repo else None
        if file is None:
            self._refuse(404)
            return
        # Some versions of huggingface_hub look for the hub's headers here: host and port are not told apart.
        self._send(file, {"X-Repo-Commit": commit or ""} if match["kind"] == "blob" else {})

    def _send(self, file: File, headers: dict[str, str]) -> None:
        path, faults, tag = urlsplit(self.path).path, self._hub.faults, f'"{file.sha256}"'
        if self.headers.get("If-None-Match") == tag:
            self._refuse(304)
            return
        size = file.size
        if faults.take(path, ("endless",)) is not None:
            self._send_for_ever(file)
            return
        if (lie := faults.take(path, ("longer", "shorter"))) is not None:
            size += 1 if lie.kind == "longer" else -1
        start, end = 0, size
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        same = self.headers.get("If-Range", tag) in (tag, _DATE)
        if asked and same and not faults.take(path, ("no_ranges",)):
            start, end = int(asked[1]), min(size, int(asked[2] or size) + bool(asked[2]))
            if start >= size:
                self._refuse(416, **{"Content-Range": f"bytes */{size}"})
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(end - start))
        self.send_header("ETag", tag)
        self.send_header("Last-Modified", _DATE)
        self.send_header("Accept-Ranges", "bytes")
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self._body(file, path, start, end)

    def _send_for_ever(self, file: File) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self._write(file.read(0, file.size))
        while not self._hub.closing.is_set():
            self._write(bytes(_PIECE))

    def _body(self, file: File, path: str, start: int, end: int) -> None:
        hub = self._hub
        fault = hub.faults.take(path, ("stall", "cut", "corrupt", "slow"))
        at = start
        while at < end and not hub.closing.is_set():
            piece = file.read(at, min(at + _PIECE, end)).ljust(min(_PIECE, end - at), b"\0")
            stop = fault is not None and fault.kind in ("stall", "cut")
            if fault is not None and stop and at + len(piece) > fault.after:
                self._write(piece[: max(0, fault.after - at)])
                if fault.kind == "stall":
                    hub.closing.wait()
                self.close_connection = True
                return
            if fault is not None and fault.kind == "corrupt" and 0 <= fault.after - at < len(piece):
                changed = bytearray(piece)
                changed[fault.after - at] ^= 0x01
                piece = bytes(changed)
            self._write(piece)
            at += len(piece)
            if fault is not None and fault.kind == "slow":
                hub.closing.wait(fault.seconds)

    def _write(self, piece: bytes) -> None:
        self.wfile.write(piece)
        self.wfile.flush()

    def _repo(self, name: str) -> Repo | None:
        """The repository, or None after a refusal."""
        repo = self._hub.repos.get(name)
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repo is None:
            self._refuse(404 if given else 401, **{"X-Error-Code": "RepoNotFound"})
        elif repo.token is not None and repo.token != given:
            code = "GatedRepo" if repo.gated else "RepoNotFound"
            self._refuse(403 if given and repo.gated else 401, **{"X-Error-Code": code})
        else:
            return repo
        return None

    def _commit(self, repo: Repo, revision: str) -> str | None:
        """The commit of a revision, or None after a refusal."""
        revision = unquote(revision)
        commit = repo.commits.get(revision, revision)
        if commit in repo.files:
            return commit
        self._refuse(404, **{"X-Error-Code": "RevisionNotFound"})
        return None

    def _json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self._write(body)

    def _refuse(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", "0")
        self.end_headers()
