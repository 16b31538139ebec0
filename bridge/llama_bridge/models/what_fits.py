"""How much memory a model takes at some lengths of context, and what fits on this machine: facts for people."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..params import AUTO, ModelParams
from ..system_memory import SystemMemory, system_memory
from .fitting import (
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
from .gguf import GgufHeader
from .memory_need import MemoryNeed

__all__ = ["memory_facts", "what_fits"]

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


def what_fits(header: GgufHeader, n_ctx_train: int, backend: str) -> dict[str, Any] | None:
    """The longest contexts of a model that fit here on a backend; None where that is not known.

    Returns:
        ``n_ctx``: 0 if none fits; ``n_ctx_q8_0``: with a KV cache of this type, or None; ``auto``: what is taken on request;
        ``most``: what the model was trained with.
    """
    place = next((place for place in _PLACES if place.name == backend), None)
    if place is None or n_ctx_train < 1 or not header.tensors:
        return None
    if need_of(header, ModelParams(), place, n_ctx_train) is None:
        return None
    return _what_fits(header, place, system_memory(), n_ctx_train) | {"most": n_ctx_train}


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
