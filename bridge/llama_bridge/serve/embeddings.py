"""``/v1/embeddings`` and ``/v1/rerank``."""

from __future__ import annotations

import base64
from collections.abc import Sequence
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

__all__ = ["embeddings", "rerank"]

_MOST = 2048
"""How many texts a request may have, as OpenAI has it."""


async def embeddings(server: Server, request: Request) -> Response:
    """Vectors of texts, of length 1."""
    fields = await server.fields(request)
    model = fields.text("model")
    texts = _texts(fields, "input")
    form = fields.choice("encoding_format", "float", "base64") or "float"
    fields.text("user")
    asked = fields.whole("dimensions", 1)
    fields.done()

    async def work() -> tuple[str, Vectors, int]:
        async with server.work(model) as served:
            llama = served.llama
            llama.requires(Capability.EMBEDDINGS)
            if asked is not None and asked != llama.info.n_embd:
                why = f"dimensions is {asked}: this model's vectors have {llama.info.n_embd}"
                raise Refused(400, why, param="dimensions", code="invalid_value")
            vectors = await llama.embed(texts)
            return served.name, vectors, await _count(llama, texts)

    try:
        name, vectors, tokens = await while_connected(request, work)
    except InvalidInput as error:
        raise as_refused(error, {"text": "input"}) from error
    data = [
        {"object": "embedding", "index": i, "embedding": _embedding(vector, form)}
        for i, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JSONResponse({"object": "list", "model": name, "data": data, "usage": usage})


async def rerank(server: Server, request: Request) -> Response:
    """Documents by how well they fit a query, best first, as Jina's and Cohere's clients know it."""
    fields = await server.fields(request)
    model = fields.text("model")
    query = fields.needed_text("query")
    documents = _documents(fields)
    most = fields.whole("top_n", 1)
    return_documents = fields.flag("return_documents")
    fields.done()

    async def work() -> tuple[str, Sequence[tuple[int, float]], int]:
        async with server.work(model) as served:
            served.llama.requires(Capability.RERANK)
            ranked = await served.llama.rerank(query, documents)
            tokens = await _count(served.llama, documents)
            return served.name, ranked, tokens + await _count(served.llama, [query])

    name, ranked, tokens = await while_connected(request, work)
    results: list[dict[str, Any]] = []
    for index, score in ranked[:most]:
        result: dict[str, Any] = {"index": index, "relevance_score": score}
        if return_documents:
            result["document"] = {"text": documents[index]}
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
