"""A table for ``llama-bridge info``: how much memory a model takes at some lengths of context, and what fits here."""

from __future__ import annotations

import os
from typing import Any

from ..models.gguf import GgufHeader
from ..models.memory_need import memory_need
from .terminal import Terminal, size

__all__ = ["memory_facts", "show_memory"]

_LENGTHS = tuple(2048 << i for i in range(10))
_NATIVE, _WASM = 512, 128
"""Tokens that each backend computes at once."""
_WASM_LIMIT = 4 << 30
_WASM_OWN = 17 << 20
"""What llama.wasm takes without a model."""


def memory_facts(header: GgufHeader, n_ctx_train: int) -> list[dict[str, Any]]:
    """Bytes by length of context, up to the one that the model was trained with; empty where they are not known."""
    lengths = [n for n in _LENGTHS if n < n_ctx_train] + ([n_ctx_train] if n_ctx_train else [])
    found: list[dict[str, Any]] = []
    for n_ctx in lengths:
        native = memory_need(header, n_ctx, at_once=min(_NATIVE, n_ctx))
        wasm = memory_need(header, n_ctx, at_once=min(_WASM, n_ctx))
        if native is None or wasm is None or not native.weights:
            return []
        found.append(
            {
                "n_ctx": n_ctx,
                "weights": native.weights,
                "kv_cache": native.cache,
                "native": native.total,
                "wasm": (in_wasm := wasm.total + _WASM_OWN),
                "fits_native": (here := memory_here()) is None or native.total <= here,
                "fits_wasm": in_wasm <= min(_WASM_LIMIT, here or _WASM_LIMIT),
            }
        )
    return found


def memory_here() -> int | None:
    """Bytes of memory of this machine, or None if the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return None


def show_memory(terminal: Terminal, facts: list[dict[str, Any]]) -> None:
    """Write the table. What does not fit has a cross."""
    if not facts:
        return

    def cell(line: dict[str, Any], backend: str) -> str:
        mark = terminal.tick if line[f"fits_{backend}"] else terminal.cross
        return f"{size(line[backend])} {mark}"

    rows = [("context", "KV cache (f16)", "all, native", "all, wasm")]
    rows += [
        (
            f"{line['n_ctx']:,}",
            size(line["kv_cache"]),
            cell(line, "native"),
            cell(line, "wasm"),
        )
        for line in facts
    ]
    terminal.line()
    terminal.columns(rows)
    here = memory_here()
    has = f"this machine has {size(here)}, and wasm" if here is not None else "wasm"
    terminal.line(f"All: weights, KV cache and work space; {has} at most 4.29 GB.", "dim")
