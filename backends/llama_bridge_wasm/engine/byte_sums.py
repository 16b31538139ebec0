"""How the kernels add up products of bytes: in pairs or in fours. The results are the same bits, the time depends on CPU and host.

On ARM64 a sum of four products is one instruction, and on x86-64 under wasmtime three. So both are timed, once in a process.
"""

from __future__ import annotations

import os
import struct
import time
from array import array

from llama_bridge.errors import BackendUnavailable

from ..abi import CHECK_PARAMS, CheckOp, Guest

__all__ = ["ENVIRONMENT", "FORMS", "settle_byte_sums"]

ENVIRONMENT = "LLAMA_BRIDGE_WASM_KERNELS"
FORMS = ("pairs", "fours")
"""By the numbers that ``lb_byte_sums`` takes."""

_Q4_0 = 2
_VALUES, _ROWS, _TOKENS = 1024, 16, 21
"""Of a product with weights in Q4_0: tokens that meet the weights together, as in prefill, and one that is left, as in decode."""
_REPEAT, _TURNS = 4, 6
_FEWEST, _ENOUGH = 3, 0.003
"""Turns that there are in any case, and seconds of this thread's processor time after which there is no other."""
_CLEARLY = 0.95
"""Of the time for pairs: what is hardly faster may be slower with other formats."""
_measured: int | None = None


def settle_byte_sums(guest: Guest) -> str:
    """Let the kernels of ``guest`` use the faster form, or the one that the environment names, and return its name.

    Where machine code gets better while it runs, as in a page, nothing can be timed at a start: it takes pairs.

    Raises:
        BackendUnavailable: the environment names no form.
    """
    global _measured
    form = _named()
    if form is None and guest.has_final_code:
        if _measured is None:
            _measured = _measure(guest)
        form = _measured
    return FORMS[guest.call("lb_byte_sums", form or 0)]


def _named() -> int | None:
    name = os.environ.get(ENVIRONMENT, "")
    if name and name not in FORMS:
        raise BackendUnavailable(
            "wasm",
            f"{ENVIRONMENT} is {name[:80]!r}",
            f"set it to {' or '.join(FORMS)}, or remove it: then the faster one is found",
        )
    return FORMS.index(name) if name else None


def _measure(guest: Guest) -> int | None:
    """The faster form; None where there is no memory to try it."""
    weights = (struct.pack("<e", 0.01) + bytes(range(16))) * (_VALUES // 32 * _ROWS)
    activations = array("f", [1.0]).tobytes() * (_VALUES * _TOKENS)
    sizes = (_VALUES, _ROWS, _TOKENS, 0, 0, 0)
    params = CHECK_PARAMS.pack(CheckOp.PRODUCT, _Q4_0, 1, _REPEAT, 1, *sizes, 0.0, 0.0, 0.0)
    given = len(weights) + len(activations)
    start = guest.call("lb_alloc", given + len(params) + 8 + 4 * _ROWS * _TOKENS) & 0xFFFFFFFF
    if start == 0:
        return None
    try:
        pointers = struct.pack("<2I", start, start + len(weights))
        guest.write(start, weights + activations + params + pointers)
        inputs = start + given + len(params)
        arguments = (start + given, inputs, inputs + len(pointers))
        best = [float("inf"), float("inf")]
        began = time.thread_time()
        for turn in range(_TURNS):
            if turn >= _FEWEST and time.thread_time() - began > _ENOUGH:
                break
            for form in range(len(FORMS)):
                guest.call("lb_byte_sums", form)
                clock = time.perf_counter()
                if guest.call("lb_check", *arguments) != 1:
                    return None
                best[form] = min(best[form], time.perf_counter() - clock)
    finally:
        guest.call("lb_free", start)
    return int(best[1] < _CLEARLY * best[0])
