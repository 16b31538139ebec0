"""How far something that takes long has come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

__all__ = ["OnProgress", "Progress", "ProgressStage", "ProgressUnit"]

ProgressStage = Literal["compile", "load", "prefill"]
ProgressUnit = Literal["bytes", "tokens"]


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of something that takes long.

    Attributes:
        stage: ``"compile"`` (llama.wasm to machine code: the first use only), ``"load"`` (a model's weights)
            or ``"prefill"`` (the tokens of a prompt).
        done, total: how much of how much. The last step of a stage that ends well has ``done == total``.
        unit: of these two: ``"bytes"`` or ``"tokens"``.
    """

    stage: ProgressStage
    done: int
    total: int
    unit: ProgressUnit


OnProgress = Callable[[Progress], object]
"""Called in the thread that does the work, which waits for it: be quick. What it raises ends the work.

It may ask the bridge for what needs no engine (``tokenize``, ``messages``, ``cancel``), not for an answer.
"""
