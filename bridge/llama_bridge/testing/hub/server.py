"""HubServer: what it has, what it was asked, when it fails."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack
from urllib.parse import quote

from .faults import Fault, FaultKind, Faults
from .routes import Handler

__all__ = ["Asked", "File", "HubServer", "Repo"]

_MAIN = "main"


@dataclass(frozen=True)
class Asked:
    """A request.

    Attributes:
        method: such as ``"GET"``.
        path: with its query.
        headers: by name in lower case.
        server: ``"hub"``, or ``"files"`` for the one that the hub sends people on to.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    server: str


@dataclass(frozen=True)
class File:
    """A file of a repository; its content is read when it is asked for."""

    content: Path | bytes
    size: int
    sha256: str

    @property
    def facts(self) -> dict[str, Any]:
        """What the hub says about it."""
        lfs = {"oid": self.sha256, "sha256": self.sha256, "size": self.size, "pointerSize": 130}
        return {"size": self.size, "oid": self.sha256[:40], "lfs": lfs}

    def read(self, start: int, end: int) -> bytes:
        """The bytes from ``start`` to ``end``."""
        if isinstance(self.content, bytes):
            return self.content[start:end]
        with self.content.open("rb") as file:
            file.seek(start)
            return file.read(end - start)


@dataclass
class Repo:
    """A repository: its commits by revision, its files by commit, who may read it."""

    commits: dict[str, str] = field(default_factory=dict[str, str])
    files: dict[str, dict[str, File]] = field(default_factory=dict[str, dict[str, File]])
    token: str | None = None
    gated: bool = False


class _FaultSettings(TypedDict, total=False):
    path: str
    times: int | None
    after: int
    status: int
    headers: dict[str, str]
    seconds: float


class HubServer:
    """A hub with repositories of real files. Use it in a ``with`` block.

    Attributes:
        url: its address, for ``HF_ENDPOINT``.
        files_url: the address of the server that it sends people on to for the files, as the real one does.
        asked: all requests so far.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.faults = Faults()
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        self.connections: set[socket.socket] = set()
        self._servers = [_Server(self, kind) for kind in ("hub", "files")]
        self.url, self.files_url = (f"http://127.0.0.1:{s.server_port}" for s in self._servers)

    def add(
        self,
        repo: str,
        files: Mapping[str, Path | bytes],
        *,
        revision: str = _MAIN,
        token: str | None = None,
        gated: bool = False,
    ) -> str:
        """Publish files as the new state of a revision; returns the commit.

        Args:
            repo: ``org/name``.
            files: their content, or where it is, by path in the repository.
            revision: a branch or tag.
            token: if given, only requests with this token may read the repository.
            gated: whether those without the token are told to accept terms, instead of that it does not exist.
        """
        there = {path: _file(content) for path, content in files.items()}
        said = "".join(f"{path} {file.sha256}\n" for path, file in sorted(there.items()))
        commit = hashlib.sha1(said.encode(), usedforsecurity=False).hexdigest()
        made = self.repos.setdefault(repo, Repo())
        made.commits[revision], made.files[commit] = commit, there
        made.token, made.gated = token, gated
        return commit

    def fail(self, kind: FaultKind, **settings: Unpack[_FaultSettings]) -> None:
        """Let something go wrong; see :class:`Fault`."""
        self.faults.add(Fault(kind, **settings))

    def address(self, repo: str, path: str, revision: str = _MAIN) -> str:
        """The plain address of a file, as of any server on the web."""
        return f"{self.files_url}/plain/{repo}/{quote(revision, safe='')}/{quote(path)}"

    def state_of(self, repo: str, commit: str, *, blobs: bool) -> dict[str, Any]:
        """What it says about a repository at a commit; with ``blobs`` the files' sizes and digests too."""
        made = self.repos[repo]
        siblings = [
            {"rfilename": path} | ({"blobId": file.sha256[:40], **file.facts} if blobs else {})
            for path, file in sorted(made.files[commit].items())
        ]
        gated = "manual" if made.gated else False
        return {"id": repo, "modelId": repo, "sha": commit, "gated": gated, "siblings": siblings}

    def environment(self, folder: Path) -> dict[str, str]:
        """Variables under which programs ask this hub, and keep everything in ``folder``, with no token."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(folder / "huggingface"),
            "HF_HUB_CACHE": str(folder / "huggingface" / "hub"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "",
            "HF_TOKEN": "",
            "HF_TOKEN_PATH": str(folder / "huggingface" / "token"),
            "HUGGINGFACE_HUB_CACHE": "",
            "HUGGING_FACE_HUB_TOKEN": "",
            "LLAMA_CACHE": "",
            "TRANSFORMERS_OFFLINE": "",
            "XDG_CACHE_HOME": str(folder / "caches"),
        }

    def downloads(self) -> list[Asked]:
        """The requests for the content of files."""
        return [a for a in self.asked if a.server == "files" and a.method == "GET"]

    def close(self) -> None:
        """Stop. Requests that are being answered end, and so do all connections. Closing twice does nothing."""
        if self.closing.is_set():
            return
        self.closing.set()
        for server in self._servers:
            server.end()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, hub: HubServer, kind: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub = hub
        self.kind = kind
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked has left: nothing to say."""

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


def _file(content: Path | bytes) -> File:
    if isinstance(content, bytes):
        return File(content, len(content), hashlib.sha256(content).hexdigest())
    with content.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return File(content, content.stat().st_size, digest)
