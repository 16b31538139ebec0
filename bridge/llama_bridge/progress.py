"""The progress of something that takes long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

__all__ = ["OnProgress", "Progress", "ProgressStage", "ProgressUnit"]

ProgressStage = Literal["download", "verify", "compile", "load", "prefill", "embed"]
ProgressUnit = Literal["bytes", "tokens", "texts"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far something that takes long has come.

    Attributes:
        stage: ``"download"`` (a model from a server), ``"verify"`` (a file's digest, on its first use only),
            ``"compile"`` (llama.wasm to machine code, on its first use only), ``"load"`` (a model's weights)
            ``"prefill"`` (the tokens of a prompt) or ``"embed"`` (the texts that ``embed`` or ``rerank`` was given).
        done, total: how much is done, and of how much. A stage that ends well ends with ``done == total``.
        unit: of both: ``"bytes"``, ``"tokens"`` or ``"texts"``.
    """

    stage: ProgressStage
    done: int
    total: int
    unit: ProgressUnit


OnProgress = Callable[[Progress], object]
"""Called in the thread that does the work, which waits for it: be quick. An exception that it raises ends the work.

It may call what needs no engine (``tokenize``, ``messages``, ``cancel``), but must not ask for an answer.
"""
