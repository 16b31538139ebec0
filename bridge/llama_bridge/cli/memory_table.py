"""A table for ``llama-bridge info``: how much memory a model takes at some lengths of context, and what fits here."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..models.fitting import (
    NATIVE,
    WASM,
    Place,
    copied_weights,
    lacking,
    longest_context,
    need_of,
    planned_room,
    settled,
    takes_q8_0,
    with_kv,
)
from ..models.gguf import GgufHeader
from ..models.memory_need import MemoryNeed
from ..params import AUTO, ModelParams
from ..system_memory import SystemMemory, system_memory
from .terminal import Terminal, size

__all__ = ["memory_facts", "show_memory"]

_LENGTHS = tuple(2048 << i for i in range(10))
_WASM_LIMIT = 4 << 30
_PLACES = (NATIVE, WASM)


def memory_facts(header: GgufHeader, n_ctx_train: int) -> dict[str, Any]:
    """What the model takes, what this machine has, and what fits on each backend.

    Returns:
        ``memory``: bytes by length of context, up to the one that the model was trained with; ``machine``; ``fits``: by
        backend the longest contexts. The first and the last are empty where the cache is not known.
    """
    here = system_memory()
    facts: dict[str, Any] = {"memory": [], "machine": asdict(here), "fits": {}}
    most = n_ctx_train
    params = ModelParams()
    if most < 1 or not header.tensors or need_of(header, params, NATIVE, most) is None:
        return facts
    lengths = [n for n in _LENGTHS if n < most] + [most]
    facts["memory"] = [_line(header, params, here, n) for n in lengths]
    facts["fits"] = {place.name: _what_fits(header, place, here, most) for place in _PLACES}
    return facts


def _line(
    header: GgufHeader, params: ModelParams, here: SystemMemory, n_ctx: int
) -> dict[str, Any]:
    line: dict[str, Any] = {"n_ctx": n_ctx}
    for place in _PLACES:
        need = need_of(header, params, place, n_ctx)
        if need is None:
            continue
        line |= {"weights": need.weights, "kv_cache": need.cache}
        line |= {f"work_{place.name}": need.work, place.name: need.total}
        line[f"fits_{place.name}"] = _fits(header, place, need, here)
    return line


def _fits(header: GgufHeader, place: Place, need: MemoryNeed, here: SystemMemory) -> bool:
    if place is WASM:
        return need.total <= min(_WASM_LIMIT, here.total or _WASM_LIMIT)
    return not lacking(need, here, copied=copied_weights(header))


def _what_fits(header: GgufHeader, place: Place, here: SystemMemory, most: int) -> dict[str, Any]:
    def longest(params: ModelParams) -> int:
        def fits(n_ctx: int) -> bool:
            need = need_of(header, params, place, n_ctx)
            return need is not None and _fits(header, place, need, here)

        return longest_context(most, fits)

    params = ModelParams()
    smaller = longest(with_kv(params, "q8_0")) if takes_q8_0(header, params) else None
    room = planned_room(place, here, _WASM_LIMIT if place is WASM else 1 << 62)
    auto = settled(header, ModelParams(n_ctx=AUTO), most, place, room).asked_n_ctx
    n_ctx = longest(params)
    return {"n_ctx": n_ctx, "n_ctx_q8_0": smaller, "auto": auto if n_ctx else None}


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
