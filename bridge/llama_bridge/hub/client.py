"""Asks the hub, through huggingface_hub: its client, its token, its model info. The one place that imports it.

Its own ``hf_hub_download`` is not used. In version 2.4 it forgets what has arrived when it is interrupted, takes a file of
the right size for the right file, and waits in silence for as long as a rate limit says. So only the bytes are fetched by
:mod:`transfer`, over huggingface_hub's client and into its cache.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Literal
from urllib.parse import quote

import httpx2
from huggingface_hub import HfApi, constants, get_session, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

from .._version import __version__
from ..errors import AccessDenied, DownloadError, ModelError, ModelNotFound
from ..models.name import HubName
from .answers import Answer, ConnectionBroke, Get, refused
from .repository import RepoFile, Repository
from .transfer import seconds_without_data

__all__ = ["ask_repository", "getter"]

_LIBRARY = "llama-bridge"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def ask_repository(name: HubName) -> Repository:
    """The files of a repository at the revision that the name says.

    Raises:
        ModelNotFound: no such repository or revision.
        DownloadError: no answer, or none that makes sense; AccessDenied and RateLimited among these.
    """
    api = HfApi(endpoint=_endpoint(), library_name=_LIBRARY, library_version=__version__)
    try:
        info = api.model_info(
            name.repo,
            revision=name.revision,
            files_metadata=True,
            timeout=seconds_without_data(),
            token=_token(name),
        )
        commit, files = info.sha or "", info.siblings or []
        if not _COMMIT.fullmatch(commit):
            raise ValueError("it names no commit")
        found = tuple(
            RepoFile(file.rfilename, file.size or 0, _digest(file.lfs and file.lfs.sha256))
            for file in files
            if _is_harmless(file.rfilename)
        )
    except HfHubHTTPError as error:
        response = error.response
        raise _refused(name, response.status_code, response.headers) from error
    except OfflineModeIsEnabled as error:
        raise DownloadError(str(name), "offline mode (HF_HUB_OFFLINE) is on") from error
    except httpx2.TransportError as error:
        raise DownloadError(str(name), _no_answer(error)) from error
    except HFValidationError as error:
        raise ModelNotFound(str(name), f"no repository can be called so: {error}") from error
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
        httpx2.InvalidURL,
    ) as error:
        why = f"{_endpoint()} does not answer like the hub ({error}): see HF_ENDPOINT"
        raise DownloadError(str(name), why) from error
    return Repository(name.repo, commit, found)


def getter(name: HubName, commit: str, path: str) -> Get:
    """What asks for a file. The token goes to the hub only, not to the server that it sends us on to."""
    url = f"{_endpoint()}/{name.repo}/resolve/{commit}/{quote(path)}"

    @contextmanager
    def get(headers: Mapping[str, str]) -> Generator[Answer]:
        wait = httpx2.Timeout(seconds_without_data())
        asking = {"User-Agent": f"{_LIBRARY}/{__version__}", **headers}
        if token := _token(name):
            asking["Authorization"] = f"Bearer {token}"
        try:
            with _asked(name, "GET", url, headers=asking, timeout=wait) as response:
                status, found = response.status_code, _lower(response.headers)
                if status >= 400 and status not in (408, 416) and status < 500:
                    raise _refused(name, status, response.headers)
                yield Answer(status, found, _pieces(response))
        except OfflineModeIsEnabled as error:
            raise DownloadError(str(name), "offline mode (HF_HUB_OFFLINE) is on") from error
        except httpx2.TooManyRedirects as error:
            raise DownloadError(str(name), "the server sends us in circles") from error
        except httpx2.TransportError as error:
            raise ConnectionBroke(_no_answer(error)) from error

    return get


@contextmanager
def _asked(name: HubName, *args: Any, **kwargs: Any) -> Generator[httpx2.Response]:
    """The answer, which may come from another server that the hub sends us on to."""
    with ExitStack() as stack:
        try:
            response = stack.enter_context(get_session().stream(*args, **kwargs))
        except (UnicodeError, httpx2.InvalidURL) as error:
            why = f"{_endpoint()} sends us on to a server with an impossible name ({error})"
            raise DownloadError(str(name), why) from error
        yield response


def _pieces(response: httpx2.Response) -> Iterator[bytes]:
    try:
        yield from response.iter_raw()  # in pieces of a size, it would keep back what a break then loses
    except httpx2.TransportError as error:
        raise ConnectionBroke(_no_answer(error)) from error


def _endpoint() -> str:
    """The hub's address: the environment's now, which huggingface_hub reads only once."""
    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def _token(name: HubName) -> str | Literal[False]:
    """The token that huggingface_hub finds, or False. An error about a wrong one must not quote it."""
    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    if not token:
        return False
    if not re.fullmatch(r"[!-~]+", token):
        raise AccessDenied(str(name), "the token in HF_TOKEN has characters that no token has")
    return token


def _refused(name: HubName, status: int, found: Mapping[str, str]) -> ModelError:
    headers = _lower(found)
    code, page = headers.get("x-error-code", ""), f"{_endpoint()}/{name.repo}"
    has_token = _token(name) is not False
    tell = "set HF_TOKEN to a token of yours, or run: hf auth login"
    if code == "GatedRepo":
        first = "" if has_token else f"; then {tell}"
        why = f"its owner wants terms accepted first: log in and accept them at {page}{first}"
        return AccessDenied(str(name), why, status=status)
    if code == "RevisionNotFound":
        why = f"{name.repo} has no revision {name.revision or 'main'}: {page}/tree/main lists them"
        return ModelNotFound(str(name), why)
    if status == 401 and not has_token:
        why = f"there is no such repository, or it is private: check the name; for a private one {tell}"
        return AccessDenied(str(name), why, status=status)
    if status == 401:
        why = f"the token is not valid: {tell}"
        return AccessDenied(str(name), why, status=status)
    if status == 403:
        why = f"the token may not read {name.repo}: {page} shows who may"
        return AccessDenied(str(name), why, status=status)
    if status == 404 and code == "EntryNotFound":
        return ModelNotFound(str(name), f"{name.repo} has no such file")
    if status in (404, 410):
        why = f"there is no repository {name.repo} on {_endpoint()}: check the spelling"
        return ModelNotFound(str(name), why)
    return refused(str(name), Answer(status, headers, iter(())))


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {key.lower(): value for key, value in headers.items()}


def _no_answer(error: Exception) -> str:
    host = _endpoint()
    if isinstance(error, httpx2.TimeoutException):
        return f"{host} has sent nothing for {seconds_without_data():g} s"
    return f"no connection to {host} ({_words(error)})"


def _words(error: Any) -> str:
    return str(error).strip() or type(error).__name__


def _digest(text: object) -> str | None:
    return text if isinstance(text, str) and _SHA256.fullmatch(text) else None


def _is_harmless(path: object) -> bool:
    """Whether a path cannot lead out of a folder, on any system."""
    if not isinstance(path, str) or re.search(r'[\0-\x1f\\:*?"<>|]', path):
        return False
    return not {"", ".", ".."} & {*path.split("/")}
