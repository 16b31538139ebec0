"""A table for ``llama-bridge info``: how much memory a model takes at some lengths of context, and what fits here."""

from __future__ import annotations

from typing import Any

from .terminal import Terminal, size

__all__ = ["show_memory"]


def show_memory(terminal: Terminal, facts: dict[str, Any]) -> None:
    """Write the table, and what fits. What does not fit has a cross."""
    lines: list[dict[str, Any]] = facts["memory"]
    if not lines:
        return

    def cell(line: dict[str, Any], backend: str) -> str:
        mark = terminal.tick if line[f"fits_{backend}"] else terminal.cross
        return f"{size(line[backend])} {mark}"

    rows = [("context", "weights", "KV cache (f16)", "all, native", "all, wasm")]
    rows += [
        (
            f"{line['n_ctx']:,}",
            size(line["weights"]),
            size(line["kv_cache"]),
            cell(line, "native"),
            cell(line, "wasm"),
        )
        for line in lines
    ]
    terminal.line()
    terminal.columns(rows)
    terminal.line(f"All: weights, KV cache and work space; {_has(facts['machine'])}.", "dim")
    terminal.line()
    most = lines[-1]["n_ctx"]
    terminal.rows({f"on {name}": _words(found, most) for name, found in facts["fits"].items()})


def _has(machine: dict[str, Any]) -> str:
    total, available = machine["total"], machine["available"]
    if total is None:
        return "wasm has at most 4.29 GB"
    what = "this container may use" if machine["is_limited"] else "this machine has"
    free = f", {size(available)} of it free" if available is not None else ""
    return f"{what} {size(total)}{free}, and wasm at most 4.29 GB"


def _words(found: dict[str, Any], most: int) -> str:
    """What fits on a backend, and what would."""
    n_ctx, smaller, auto = found["n_ctx"], found["n_ctx_q8_0"], found["auto"]
    if n_ctx >= most:
        text = f"all {most:,} tokens of context fit"
    elif n_ctx:
        text = f"up to {n_ctx:,} tokens of context fit"
        if smaller and smaller > n_ctx:
            text += f", {_up_to(smaller, most)} with a KV cache of q8_0"
    elif smaller:
        text = (
            f"{_up_to(smaller, most)} tokens of context fit with a KV cache of q8_0, none without"
        )
    else:
        return "does not fit: take a smaller model or quantisation"
    return text + (f"; --n-ctx auto takes {auto:,}" if auto else "")


def _up_to(n_ctx: int, most: int) -> str:
    return "all" if n_ctx >= most else f"up to {n_ctx:,}"
