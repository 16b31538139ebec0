"""``llama-bridge embed`` and ``rerank``: texts to vectors and scores, for shells and scripts."""

from __future__ import annotations

import sys
from typing import Any, cast

import click

from ..bridge import LlamaBridge
from ..capabilities import Capability
from ..errors import InvalidInput
from ..params import ModelParams, Pooling
from .logs import verbose
from .options import BEST, as_json, loading_options, untrusted_option
from .terminal import Terminal

__all__ = ["embed", "rerank"]

_model = click.option("--model", "-m", required=True, help="A GGUF file, or a name: hf:org/repo.")
_truncate = click.option("--truncate", is_flag=True, help="Cut texts that are too long.")


@click.command
@click.argument("text", nargs=-1)
@_model
@click.option(
    "--pooling",
    type=click.Choice(("mean", "cls", "last")),
    help="How a text's tokens become one vector. Default: as the model's file says.",
)
@click.option("--raw", is_flag=True, help="Vectors as the model gives them, not of length 1.")
@_truncate
@loading_options(BEST)
@untrusted_option
@as_json
@verbose
@click.pass_context
def embed(
    context: click.Context,
    /,
    text: tuple[str, ...],
    model: str,
    pooling: str | None,
    raw: bool,
    truncate: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Print a vector for each TEXT, its numbers on one line.

    Without TEXT, each line of standard input is one.
    """
    terminal: Terminal = context.obj
    texts = list(text) or _lines(
        "give a text: llama-bridge embed -m MODEL.gguf TEXT, or pipe lines in"
    )
    with _load(terminal, model, pooling, **options) as llama:
        llama.requires(Capability.EMBEDDINGS)
        with terminal.waiting("reading the texts"):
            vectors = llama.embed(texts, normalize=not raw, truncate=truncate)
        if as_json:
            record: dict[str, Any] = {"model": llama.model_name, "backend": llama.backend}
            pooling = llama.info.pooling if Capability.TOKENS in llama.capabilities else None
            record |= {"n_embd": vectors.n_embd, "pooling": pooling}
            terminal.json(record | {"embeddings": vectors.tolist()})
            return
        for vector in vectors:
            terminal.write(" ".join(f"{value:.7g}" for value in vector) + "\n")


@click.command
@click.argument("query")
@click.argument("document", nargs=-1)
@_model
@_truncate
@loading_options(BEST)
@untrusted_option
@as_json
@verbose
@click.pass_context
def rerank(
    context: click.Context,
    /,
    query: str,
    document: tuple[str, ...],
    model: str,
    truncate: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Print documents by how well they fit QUERY, best first.

    Each DOCUMENT stands after its score.

    Without DOCUMENT, each line of standard input is one.
    """
    terminal: Terminal = context.obj
    documents = list(document) or _lines("give documents after the query, or pipe lines in")
    with _load(terminal, model, None, **options) as llama:
        llama.requires(Capability.RERANK)
        with terminal.waiting("reading the documents"):
            ranked = llama.rerank(query, documents, truncate=truncate)
        if as_json:
            results = [
                {"index": index, "score": score, "document": documents[index]}
                for index, score in ranked
            ]
            record = {"model": llama.model_name, "backend": llama.backend}
            terminal.json(record | {"results": results})
            return
        for index, score in ranked:
            terminal.write(f"{score:.6g}\t{documents[index]}\n")


def _load(
    terminal: Terminal,
    model: str,
    pooling: str | None,
    *,
    backend: str,
    untrusted: bool,
    params: ModelParams,
) -> LlamaBridge:
    with terminal.waiting(f"loading {model}"):
        return LlamaBridge(
            model,
            backend=backend,
            untrusted=untrusted,
            params=params,
            pooling=cast("Pooling | None", pooling),
            on_progress=terminal.progress,
        )


def _lines(usage: str) -> list[str]:
    """The lines of standard input."""
    if sys.stdin is None or sys.stdin.isatty():
        raise click.UsageError(usage)
    text = sys.stdin.read()
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput("standard input is not UTF-8 text") from error
    # Not splitlines(): a form feed or a line separator is part of a text, and the vectors would be out of step.
    return text.removesuffix("\n").split("\n") if text else []
