"""Reads a model's name. Pure: it looks at no disk and asks no server, so pages can use it too.

.. code-block:: text

    demo                                  the model in the package
    models/chat.gguf                      a path
    https://host/chat.gguf                an address; #sha256=<hex> at its end says what must arrive
    hf:org/repo                           a repository on the hub; the best quantisation is chosen
    hf:org/repo:Q5_K_M                    the one with this quantisation
    hf:org/repo/folder/file.gguf          one file
    ...@revision                          a branch, a tag or a commit, behind any of the three
    ...#sha256=<hex>                      what the file must be, behind any of these
    hf.co/org/repo:Q8_0                   as people paste it; huggingface.co too, with or without https://
    org/repo:Q4_K_M                       the same, where there is no such path
    ollama:llama3.2:1b                    what Ollama has on this disk
    lmstudio:org/repo/file.gguf           what LM Studio has on this disk
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import SplitResult, unquote, urlsplit

from ..checks import shown
from ..errors import InvalidInput

__all__ = ["FORMS", "AppName", "HubName", "Name", "PathName", "UrlName", "read_name"]

FORMS = (
    'a path, "demo", https://…, hf:org/repo, hf:org/repo:QUANTISATION or hf:org/repo/file.gguf, '
    "each hub name with @revision if you like"
)
"""What a name can be, for error messages."""

_APPS = ("ollama", "lmstudio")
_HUBS = ("huggingface.co", "www.huggingface.co", "hf.co")
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_REPO = re.compile(rf"{_PART}/{_PART}")
_QUANTISATION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_REVISION = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_./+-]*[A-Za-z0-9_+-])?")
_SHORT = re.compile(
    rf"({_PART}/{_PART}):([A-Za-z0-9_][A-Za-z0-9_.-]*)(?:@([^\s#]+))?(?:#sha256\S*)?"
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_SHA256 = re.compile(r"sha256[=:]([0-9A-Fa-f]{64})")
_PINNED = re.compile(r"#(sha256(?![^=:]).*)", re.IGNORECASE | re.DOTALL)
_LONGEST = 96
_VIEWS = ("blob", "resolve", "raw", "tree")
_LATEST = "latest"
"""What Ollama adds to a name without a quantisation."""


@dataclass(frozen=True, slots=True)
class PathName:
    """A path, or ``"demo"``.

    Attributes:
        text: as it was given.
        instead: what it means if there is no such path: ``org/repo:QUANT`` on the hub.
    """

    text: str
    instead: HubName | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class HubName:
    """A model on the hub.

    Attributes:
        repo: ``org/name``.
        file: path of the file in the repository, or None to choose by quantisation.
        quantisation: such as ``"Q4_K_M"``, or None for the best.
        revision: a branch, tag or commit, or None for ``main``.
        sha256: what the file must be, in lower case; None if only the hub says it.
    """

    repo: str
    file: str | None = None
    quantisation: str | None = None
    revision: str | None = None
    sha256: str | None = None

    def __str__(self) -> str:
        which = f"/{self.file}" if self.file else f":{self.quantisation}" * bool(self.quantisation)
        revision = f"@{self.revision}" * bool(self.revision)
        return f"hf:{self.repo}{which}{revision}" + f"#sha256={self.sha256}" * bool(self.sha256)


@dataclass(frozen=True, slots=True)
class UrlName:
    """A file on a server.

    Attributes:
        url: without a fragment.
        sha256: what its fragment says must arrive, in lower case; None if it says nothing.
    """

    url: str
    sha256: str | None = None

    @property
    def file_name(self) -> str:
        """The last part of its path, or ``"model.gguf"``."""
        name = unquote(urlsplit(self.url).path).replace("\\", "/").rstrip("/").rpartition("/")[2]
        return name.replace("\0", "") or "model.gguf"

    @property
    def is_safe(self) -> bool:
        """Whether nobody can change the file on its way: it comes by https, or from this machine."""
        parts = urlsplit(self.url)
        return _is_safe(parts.scheme, parts.hostname or "")

    def __str__(self) -> str:
        return self.url + f"#sha256={self.sha256}" * bool(self.sha256)


@dataclass(frozen=True, slots=True)
class AppName:
    """A model that another program keeps on this disk.

    Attributes:
        app: ``"ollama"`` or ``"lmstudio"``.
        model: its name there.
    """

    app: str
    model: str

    def __str__(self) -> str:
        return f"{self.app}:{self.model}"


Name = PathName | HubName | UrlName | AppName


def read_name(text: str) -> Name:
    """What a name means.

    Raises:
        InvalidInput: it begins like one of the forms, but is none; says which part is wrong.
    """
    app, colon, rest = text.partition(":")
    if colon and app.lower() in _APPS:
        if not rest or "\0" in rest:
            raise _wrong(text, f"give a name after {app}:, as llama-bridge models lists them")
        return AppName(app.lower(), rest)
    if app.lower() == "hf" and colon:
        return _hub(text, rest.removeprefix("//"))
    if (scheme := _SCHEME.match(text)) is not None:
        return _address(text, scheme[1].lower())
    host, slash, rest = text.partition("/")
    if slash and host.lower() in _HUBS:
        return _pasted(text, rest)
    short = _SHORT.fullmatch(text)
    if short is not None and not short[1].lower().endswith(".gguf"):
        return PathName(text, _hub(text, text))
    return PathName(text)


def _address(text: str, scheme: str) -> Name:
    if scheme not in ("http", "https"):
        raise _wrong(text, f"{scheme}:// is not supported: give https://, or download the file")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _wrong(_without_secrets(text), f"not an address: {error}") from error
    if not host or re.search(r"[\s\0-\x1f]", text):
        raise _wrong(_without_secrets(text), "not an address: it has no host, or spaces")
    if parts.username is not None or parts.password is not None:
        raise _wrong(_without_secrets(text), "names and passwords in addresses are not supported")
    if host in _HUBS and port in (None, 80, 443):
        fragment = f"#{parts.fragment}" * bool(parts.fragment)
        return _pasted(text, parts.path.removeprefix("/") + fragment)
    return _url(text, parts, host)


def _url(text: str, parts: SplitResult, host: str) -> UrlName:
    sha256 = _promised(text, parts.fragment)
    if sha256 is None and not _is_safe(parts.scheme, host):
        raise _wrong(
            text,
            "what comes by http:// can be changed on its way: give https://, or say what must arrive "
            "with #sha256=<hex> at the end",
        )
    return UrlName(parts._replace(fragment="").geturl(), sha256)


def _promised(text: str, fragment: str) -> str | None:
    """The digest in what follows a ``#``."""
    found = _SHA256.fullmatch(fragment)
    if found is None and fragment.lower().startswith("sha256"):
        raise _wrong(text, "a sha256 has 64 hexadecimal digits: #sha256=<hex>")
    return found[1].lower() if found else None


def _is_safe(scheme: str, host: str) -> bool:
    if scheme.lower() != "http" or host in ("localhost", "::1"):
        return True
    return re.fullmatch(r"127(?:\.\d+){3}", host) is not None


def _pasted(text: str, rest: str) -> HubName:
    """``org/repo``, perhaps with the view that a browser shows, which names revision and file."""
    rest, _, fragment = rest.partition("#")
    sha256 = _promised(text, fragment)
    rest = unquote(rest.partition("?")[0]).rstrip("/")
    if rest.startswith(("datasets/", "spaces/")):
        raise _wrong(text, "this is no model repository: give hf:org/repo")
    parts = rest.split("/")
    if len(parts) > 3 and parts[2] in _VIEWS:
        repo, revision, file = "/".join(parts[:2]), parts[3], parts[4:]
        if revision == "refs" and len(file) >= 2:
            revision, file = "/".join(["refs", *file[:2]]), file[2:]
        if parts[2] == "tree" and not "/".join(file).lower().endswith(".gguf"):
            file = []  # a folder
        return _checked(text, HubName(repo, "/".join(file) or None, None, revision, sha256))
    return replace(_hub(text, rest), sha256=sha256)


def _hub(text: str, rest: str) -> HubName:
    """``org/repo``, then a quantisation or a file, then a revision; the revision may also follow the repository."""
    pinned = _PINNED.search(rest)
    sha256 = _promised(text, pinned[1]) if pinned else None
    rest = rest[: pinned.start()] if pinned else rest
    org, _, more = rest.partition("/")
    ends = re.search(r"[/:@]", more)
    at = ends.start() if ends else len(more)
    repo, tail = f"{org}/{more[:at]}", more[at:]
    revision: str | None = None
    if tail.startswith("@"):
        pattern = r"@(refs/(?:pr|convert)/[^/:@]+|[^:@]+?)(?=$|:[^:/@]*$|/[^@]*\.gguf$)"
        found = re.match(pattern, tail, re.IGNORECASE)
        if found is None:
            raise _wrong(text, "give one revision after @")
        revision, tail = found[1], tail[found.end() :]
    elif "@" in tail:
        tail, _, revision = tail.rpartition("@")
    file = quantisation = None
    if tail.startswith("/"):
        file = tail[1:]
        if ":" in file:
            raise _wrong(text, "give a file or a quantisation, not both")
        if not file:
            raise _wrong(text, "give a file after the last /, or leave it out")
    elif tail.startswith(":"):
        quantisation = tail[1:]
    name = HubName(repo, file, quantisation, revision, sha256)
    if quantisation is not None and quantisation.lower() == _LATEST:
        name = replace(name, quantisation=None)
    return _checked(text, name)


def _checked(text: str, name: HubName) -> HubName:
    if not _REPO.fullmatch(name.repo) or "--" in name.repo or ".." in name.repo:
        raise _wrong(text, "a repository is called org/repo, of letters, digits, '_', '-' and '.'")
    if any(len(part) > _LONGEST for part in name.repo.split("/")):
        raise _wrong(text, f"no part of a repository's name is longer than {_LONGEST}")
    if name.quantisation is not None and not _QUANTISATION.fullmatch(name.quantisation):
        raise _wrong(text, "a quantisation is called something like Q4_K_M")
    revision = name.revision
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise _wrong(text, "a revision is a branch, a tag, or a commit's 40 digits")
    if name.file is not None:
        if not name.file.lower().endswith(".gguf"):
            raise _wrong(text, f"{name.file} is no GGUF file: name a file that ends with .gguf")
        parts = name.file.split("/")
        if re.search(r'[\0-\x1f\\:*?"<>|]', name.file) or {"", ".", ".."} & {*parts}:
            raise _wrong(text, f"{name.file!r} is no path in a repository")
    return name


def _without_secrets(text: str) -> str:
    """An address without the name and password in it."""
    return re.sub(r"(?<=//)[^/?#]*@", "", text)


def _wrong(text: str, why: str) -> InvalidInput:
    return InvalidInput(f"model={shown(text)}: {why}. A model is {FORMS}")
