"""Vectors and scores: ``/v1/embeddings`` and ``/v1/rerank``, which all kinds of servers have in the same shape."""

from __future__ import annotations

import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from llama_bridge.capabilities import Capability
from llama_bridge.errors import (
    BridgeError,
    Cancelled,
    EngineError,
    InvalidInput,
    UnsupportedCapability,
)
from llama_bridge.progress import OnProgress, Progress
from llama_bridge.vectors import Vectors

from .client import Line, NotJson, Refused
from .remote_runtime import RemoteRuntime

__all__ = ["VectorCalls"]

_AT_ONCE = 64
"""Texts of one request."""


class VectorCalls(RemoteRuntime):
    """The calls for vectors and scores."""

    def embed(
        self, texts: Sequence[str], *, truncate: bool, on_progress: OnProgress | None
    ) -> Vectors:
        """See :meth:`Runtime.embed`. The server may have scaled the vectors to the length 1."""
        if Capability.EMBEDDINGS not in self.capabilities:
            raise UnsupportedCapability(Capability.EMBEDDINGS, self.backend)
        self._check_no_cut(truncate)
        data, size = bytearray(), 0

        def ask(part: Sequence[str]) -> None:
            nonlocal size
            body = {"model": self.name, "input": list(part), "encoding_format": "float"}
            for vector in _vectors(self.posted("/v1/embeddings", body), len(part)):
                size = size or len(vector)
                if len(vector) != size or not size:
                    raise EngineError("the server's vectors are not of one length")
                data.extend(vector.tobytes())

        self.in_parts(texts, ask, on_progress)
        if not size:
            raise InvalidInput("text is empty: give at least one")
        return Vectors(data, size)

    def _check_no_cut(self, truncate: bool) -> None:
        if truncate:
            raise InvalidInput("truncate=True: this server cuts nothing: cut the texts yourself")

    def in_parts(
        self,
        texts: Sequence[str],
        ask: Callable[[Sequence[str]], None],
        on_progress: OnProgress | None,
    ) -> None:
        """Ask for some texts at a time, and tell how many are done."""
        for start in range(0, len(texts), _AT_ONCE):
            part = texts[start : start + _AT_ONCE]
            try:
                ask(part)
            except BridgeError as error:
                named = getattr(error, "text", "")
                if start and isinstance(named, str) and named.startswith("text["):
                    raise EngineError(f"of the texts from text[{start}] on: {error}") from error
                raise
            if on_progress is not None:
                on_progress(Progress("embed", start + len(part), len(texts), "texts"))

    def posted(self, path: str, body: Mapping[str, Any]) -> Any:
        """What the server answers; :meth:`cancel` ends the wait.

        Raises:
            Cancelled, BridgeError.
        """
        self._check_open()
        line = Line()
        with self.under_way(line):
            try:
                return self.client.post(path, body, line)
            except Refused as refused:
                raise self.client.error_of(refused.refusal, self.name) from refused
            except EngineError as error:
                self._check_open()
                if line.given_up.is_set():
                    raise Cancelled("cancelled before all was computed") from error
                raise

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        truncate: bool,
        on_progress: OnProgress | None,
    ) -> list[float]:
        """See :meth:`Runtime.rank`."""
        if Capability.RERANK not in self.capabilities:
            raise UnsupportedCapability(Capability.RERANK, self.backend)
        self._check_no_cut(truncate)
        scores: list[float] = []

        def ask(part: Sequence[str]) -> None:
            body = {"model": self.name, "query": query, "documents": list(part)}
            scores.extend(_scores(self.posted("/v1/rerank", body), len(part)))

        self.in_parts(documents, ask, on_progress)
        return scores


def _vectors(answer: Any, n: int) -> list[array.array[float]]:
    found: dict[int, array.array[float]] = {}
    with suppress(TypeError, ValueError, KeyError, AttributeError, OverflowError):
        for i, one in enumerate(cast("Sequence[dict[str, Any]]", answer["data"])):
            found[int(one.get("index", i))] = array.array("f", one["embedding"])
    if sorted(found) != list(range(n)):
        raise NotJson("the server's answer to /v1/embeddings has not one vector for each text")
    return [found[i] for i in range(n)]


def _scores(answer: Any, n: int) -> list[float]:
    try:
        results = cast("Sequence[dict[str, Any]]", answer["results"])
        found = {int(one["index"]): float(one["relevance_score"]) for one in results}
        return [found[i] for i in range(n)]
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise NotJson(
            "the server's answer to /v1/rerank has not one score for each document"
        ) from error
