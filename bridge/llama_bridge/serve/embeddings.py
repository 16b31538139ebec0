"""``/v1/embeddings`` and ``/v1/rerank``."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..aio import AsyncLlamaBridge
from ..capabilities import Capability
from ..errors import InvalidInput
from ..vectors import Vectors
from .answering import while_connected
from .fields import Fields
from .refusals import Refused, as_refused
from .server import Server

__all__ = ["EmbeddingAsk", "RerankAsk", "embeddings", "read_embedding", "read_rerank", "rerank"]

_MOST = 2048
"""How many texts a request may have, as OpenAI has it."""


@dataclass(frozen=True, slots=True)
class EmbeddingAsk:
    """A request for vectors."""

    model: str | None
    texts: tuple[str, ...]
    form: str
    dimensions: int | None


def read_embedding(fields: Fields) -> EmbeddingAsk:
    """Read a request.

    Raises:
        Refused: names the field.
    """
    ask = EmbeddingAsk(
        model=fields.text("model"),
        texts=_texts(fields, "input"),
        form=fields.choice("encoding_format", "float", "base64") or "float",
        dimensions=fields.whole("dimensions", 1),
    )
    fields.text("user")
    fields.done()
    return ask


@dataclass(frozen=True, slots=True)
class RerankAsk:
    """A request for an order."""

    model: str | None
    query: str
    documents: tuple[str, ...]
    most: int | None
    return_documents: bool


def read_rerank(fields: Fields) -> RerankAsk:
    """Read a request.

    Raises:
        Refused: names the field.
    """
    ask = RerankAsk(
        model=fields.text("model"),
        query=fields.needed_text("query"),
        documents=_documents(fields),
        most=fields.whole("top_n", 1),
        return_documents=fields.flag("return_documents"),
    )
    fields.done()
    return ask


async def embeddings(server: Server, request: Request) -> Response:
    """Vectors of texts, of length 1."""
    ask = await server.read(request, read_embedding)

    async def work() -> tuple[str, Vectors, int]:
        async with server.work(ask.model) as served:
            llama = served.llama
            llama.requires(Capability.EMBEDDINGS)
            if ask.dimensions not in (None, llama.info.n_embd):
                why = (
                    f"dimensions is {ask.dimensions}: this model's vectors have {llama.info.n_embd}"
                )
                raise Refused(400, why, param="dimensions", code="invalid_value")
            vectors = await llama.embed(ask.texts)
            return served.name, vectors, await _count(llama, ask.texts)

    try:
        name, vectors, tokens = await while_connected(request, work)
    except InvalidInput as error:
        raise as_refused(error, {"text": "input"}) from error
    server.meters.read(tokens)
    data = [
        {"object": "embedding", "index": i, "embedding": _embedding(vector, ask.form)}
        for i, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JSONResponse({"object": "list", "model": name, "data": data, "usage": usage})


async def rerank(server: Server, request: Request) -> Response:
    """Documents by how well they fit a query, best first, as Jina's and Cohere's clients know it."""
    ask = await server.read(request, read_rerank)

    async def work() -> tuple[str, Sequence[tuple[int, float]], int]:
        async with server.work(ask.model) as served:
            served.llama.requires(Capability.RERANK)
            ranked = await served.llama.rerank(ask.query, ask.documents)
            tokens = await _count(served.llama, ask.documents)
            return served.name, ranked, tokens + await _count(served.llama, [ask.query])

    name, ranked, tokens = await while_connected(request, work)
    server.meters.read(tokens)
    results: list[dict[str, Any]] = []
    for index, score in ranked[: ask.most]:
        result: dict[str, Any] = {"index": index, "relevance_score": score}
        if ask.return_documents:
            result["document"] = {"text": ask.documents[index]}
        results.append(result)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JSONResponse({"object": "list", "model": name, "results": results, "usage": usage})


async def _count(llama: AsyncLlamaBridge, texts: Sequence[str]) -> int:
    """How many tokens some texts have, as they are embedded."""
    return sum([len(await llama.tokenize(text)) for text in texts])


def _embedding(vector: memoryview[float], form: str) -> list[float] | str:
    return list(vector) if form == "float" else base64.b64encode(vector).decode()


def _texts(fields: Fields, name: str) -> tuple[str, ...]:
    value = fields.any(name)
    if isinstance(value, list) and value and not isinstance(value[0], str):
        why = f"{name}: give text; this server takes no token ids"
        raise Refused(400, why, param=name, code="unsupported_value")
    texts = fields.texts(name, most=_MOST)
    if not texts or not all(texts):
        raise fields.refuse(name, "a string that is not empty, or a list of such")
    return texts


def _documents(fields: Fields) -> tuple[str, ...]:
    value = fields.any("documents")
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return fields.map("documents", lambda document: document.needed_text("text"))
    if not isinstance(value, list):
        raise fields.refuse("documents", "a list of strings")
    return _texts(fields, "documents")
