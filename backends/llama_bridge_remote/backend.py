"""The backend that the bridge finds: asks a server what it is, and takes the runtime for that."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any, cast

from llama_bridge.capabilities import Capability
from llama_bridge.checks import shown
from llama_bridge.errors import (
    BackendUnavailable,
    EngineError,
    FallbackWarning,
    InvalidInput,
    ModelLoadError,
    ModelNotFound,
)
from llama_bridge.models.source import DEMO
from llama_bridge.params import ModelParams
from llama_bridge.progress import OnProgress
from llama_bridge.runtime import Availability, Backend, Model, Runtime, SessionStorage

from .address import KEY_VARIABLE, URL_VARIABLE, Address, read_address
from .events import as_object

if TYPE_CHECKING:
    import ssl

    from .client import Client
    from .llama_server.facts import Facts

__all__ = ["BACKEND", "NAME", "RemoteBackend"]

NAME = "remote"
_INSTALL = 'pip install "llama-bridge[remote]"'
_LONGEST = 1_000_000
"""Seconds that a server may say nothing, at most: a socket takes no end of them."""
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OF_THE_SERVER = (
    "n_batch",
    "n_threads",
    "type_k",
    "type_v",
    "flash_attn",
    "n_gpu_layers",
    "pooling",
    "n_parallel",
)


class RemoteBackend(Backend):
    """Models on a server.

    Args:
        api_key: sent as a bearer token; None takes ``LLAMA_BRIDGE_API_KEY``. It is never shown or logged.
        timeout: seconds that a server may say nothing, also while it evaluates a prompt, and in which an answer that is no
            stream must come whole.
        headers: sent with each request, for a gateway, say.
        verify: an :class:`ssl.SSLContext` for a server whose certificate this system does not know. Certificates are
            always checked. In a page the browser does it.
    """

    name = NAME
    rank = 0
    asks_servers = True
    capabilities = (
        Capability.GENERATE
        | Capability.STREAM
        | Capability.CANCEL
        | Capability.JSON_SCHEMA
        | Capability.LOGPROBS
        | Capability.CHAT_TEMPLATE
        | Capability.TOOLS
        | Capability.TOKENS
        | Capability.KV_CONTINUATION
        | Capability.PREFIX_CACHE
        | Capability.SESSION_TOOLS
        | Capability.SESSION_PERSISTENCE
        | Capability.EMBEDDINGS
        | Capability.RERANK
        | Capability.PARALLEL
    )

    def __init__(
        self,
        *,
        api_key: str | None = None,
        timeout: float = 600.0,
        headers: Mapping[str, str] | None = None,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        if api_key is not None and (not isinstance(api_key, str) or not _is_word(api_key)):
            raise InvalidInput("api_key: give a string of printable ASCII without spaces")
        if (
            isinstance(timeout, bool)
            or not isinstance(timeout, int | float)
            or not 0 < timeout <= _LONGEST
        ):
            raise InvalidInput(
                f"timeout={shown(timeout)}: give seconds, more than 0, {_LONGEST:,} at most"
            )
        self._key = api_key
        self._timeout = float(timeout)
        self._headers = dict(headers or {})
        for header, value in self._headers.items():
            if not isinstance(header, str) or not _HEADER.fullmatch(header):
                raise InvalidInput(f"headers has {shown(header)}, which is no name of a header")
            # The value may be a key: it is not shown.
            if not isinstance(value, str) or not value.isascii() or not value.isprintable():
                raise InvalidInput(f"headers[{shown(header)}]: give a string of printable ASCII")
        if verify is not None and sys.platform == "emscripten":
            raise InvalidInput("verify: in a page the browser checks certificates")
        self._verify = verify

    def __repr__(self) -> str:
        return f"{type(self).__name__}(timeout={self._timeout:g})"

    def probe(self) -> Availability:
        """Looks for the HTTP client; asks no server. Whether one answers is known when a model is loaded."""
        if sys.platform == "emscripten":
            version = "the browser's fetch"
        elif importlib.util.find_spec("httpx2") is None:
            return Availability(NAME, False, "httpx2 is not installed", _INSTALL)
        else:
            version = f"httpx2 {metadata.version('httpx2')}"
        if not os.environ.get(URL_VARIABLE):
            why = "no server is named"
            hint = f'set {URL_VARIABLE}, or write LlamaBridge("http://host:8080", backend="remote")'
            return Availability(NAME, True, why, hint, version)
        return Availability(NAME, True, version=version)

    def example(self) -> Model:
        """See :meth:`Backend.example`."""
        return os.environ.get(URL_VARIABLE, "") or DEMO

    def check(self, model: Model, on_progress: OnProgress | None = None) -> None:
        """See :meth:`Backend.check`."""
        read_address(model)

    def open(
        self,
        model: Model,
        params: ModelParams,
        storage: SessionStorage,
        on_progress: OnProgress | None,
    ) -> Runtime:
        """Ask the server what it is and has.

        Raises:
            BackendUnavailable: nobody answers there.
            InvalidInput, AccessDenied, ModelNotFound, ModelLoadError, EngineError.
        """
        address = read_address(model)
        if storage.folder is not None:
            raise InvalidInput(
                "sessions_dir: a server keeps conversations in a folder of its own: leave it out, and call session_save()"
            )
        available = self.probe()
        if not available.ok:
            raise BackendUnavailable(NAME, available.reason, available.hint)
        from .client import Client  # 60 ms with httpx2, for those who ask a server

        client = Client(
            address, self._api_key(), self._timeout, self._headers, self._verify or True
        )
        try:
            with client.opening():
                runtime = _open(client, address, params)
            _tell_ignored(params)  # which raises where warnings are errors
        except BaseException:
            client.close()
            raise
        return runtime

    def _api_key(self) -> str:
        key = os.environ.get(KEY_VARIABLE, "").strip() if self._key is None else self._key
        if not _is_word(key):
            raise InvalidInput(f"{KEY_VARIABLE}: give a string of printable ASCII without spaces")
        return key


def _is_word(key: str) -> bool:
    return all(33 <= ord(letter) < 127 for letter in key)


def _tell_ignored(params: ModelParams) -> None:
    """Warn of settings that are the server's."""
    default = ModelParams()
    names = [n for n in _OF_THE_SERVER if getattr(params, n) != getattr(default, n)]
    if names:
        warnings.warn(
            f"{', '.join(names)} had no effect: the model is loaded by its server, with the server's settings",
            FallbackWarning,
            stacklevel=2,
        )


def _open(client: Client, address: Address, params: ModelParams) -> Runtime:
    from .client import NoAnswer, NotJson, Refused  # as above

    try:
        return _opened(client, address, params)
    except Refused as refused:
        error = client.error_of(refused.refusal, address.model)
        if isinstance(error, EngineError):
            error = ModelLoadError(address.url, str(error))
        raise error from refused
    except NoAnswer as error:
        hint = "start it, or check the address"
        raise BackendUnavailable(NAME, str(error), hint) from error
    except NotJson as error:
        raise ModelLoadError(address.url, str(error)) from error


def _opened(client: Client, address: Address, params: ModelParams) -> Runtime:
    from .llama_server.probe import capabilities_of  # 10 ms, as above
    from .llama_server.runtime import LlamaServerRuntime
    from .llama_server.vocabulary import Vocabulary
    from .openai.any_server import AnyServerRuntime  # 10 ms, as above
    from .openai.bridge_server import BridgeServerRuntime
    from .openai.probe import of_any_server, of_bridge_server

    record = _chosen(client, address)
    name, owner = str(record["id"]), str(record.get("owned_by") or "")
    runtime: Runtime
    if owner == "llama-bridge":
        runtime = BridgeServerRuntime(client, name, of_bridge_server(client, record, name))
    elif owner == "llamacpp" and (facts := _llama_server(client, record)) is not None:
        vocabulary = Vocabulary(client, facts)
        able = capabilities_of(client, facts, vocabulary)
        runtime = LlamaServerRuntime(client, name, able, facts, vocabulary)
        _check_context(address, params, facts.n_ctx)
    else:
        runtime = AnyServerRuntime(client, name, of_any_server(client, name), owner)
    _check_context(address, params, record.get("n_ctx") or record.get("max_model_len"))
    return runtime


def _llama_server(client: Client, record: Mapping[str, Any]) -> Facts | None:
    """What a llama-server is; None for one that hides what it is, or a router in front of some."""
    from .client import NotJson, Refused  # 60 ms, as above
    from .llama_server.facts import read_facts

    try:
        facts = read_facts(client, record)
    except (Refused, NotJson):
        return None
    return facts if facts.n_vocab else None


def _chosen(client: Client, address: Address) -> Mapping[str, Any]:
    """The record of the model that is meant.

    Raises:
        ModelNotFound, InvalidInput, EngineError.
    """
    from .client import NotJson  # as above

    answer: Any = client.get("/v1/models")
    data: object = as_object(answer).get("data")
    if not isinstance(data, list):
        raise NotJson(f"{client.url}/v1/models does not list models")
    records = [
        cast("Mapping[str, Any]", one)
        for one in cast("Sequence[object]", data)
        if isinstance(one, dict) and "id" in one
    ]
    names = [client.without_secrets(str(record["id"])) for record in records]
    there = ", ".join(shown(name).strip("'") for name in names[:20]) + (
        f" and {len(names) - 20} more" if len(names) > 20 else ""
    )
    if address.model is None:
        if len(records) == 1:
            return records[0]
        if not records:
            raise ModelLoadError(address.url, "the server has no model")
        raise InvalidInput(
            f"model is missing: {address.url} has several: give model= one of {there}"
        )
    for record in records:
        aliases = record.get("aliases")
        others = cast("Sequence[object]", aliases) if isinstance(aliases, list) else ()
        if address.model in (record["id"], *others):
            return {**record, "id": address.model}
    raise ModelNotFound(
        address.model,
        f"the server {address.url} has no model of that name; it has {there or 'none'}",
        names,
    )


def _check_context(address: Address, params: ModelParams, n_ctx: object) -> None:
    if isinstance(n_ctx, int) and params.asked_n_ctx > n_ctx:
        raise ModelLoadError(
            address.url,
            f"n_ctx={params.n_ctx} was asked for, but the server's context holds {n_ctx} tokens: ask for less, or start "
            "the server with more",
        )


BACKEND = RemoteBackend()
