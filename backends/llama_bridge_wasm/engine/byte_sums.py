"""How the kernels add up products of bytes: in pairs or in fours. The results are the same bits, the time depends on CPU and host.

On ARM64 a sum of four products is one instruction, on x86-64 under wasmtime three, and in Chromium one on a CPU with AVX-VNNI and three on others.
So both are timed, once in a process. A page begins with what its last visit found.
"""

from __future__ import annotations

import os
import struct
import time
from array import array

from llama_bridge.errors import BackendUnavailable, EngineError

from ..abi import CHECK_PARAMS, CheckOp, Guest
from .plans import has_room

__all__ = ["ENVIRONMENT", "FORMS", "ByteSums"]

ENVIRONMENT = "LLAMA_BRIDGE_WASM_KERNELS"
FORMS = ("pairs", "fours")
"""By the numbers that ``lb_byte_sums`` takes."""

_Q4_0 = 2
_VALUES, _ROWS, _TOKENS = 1024, 64, 20
"""Of a product with weights in Q4_0, as in prefill. With fewer rows most of the time is not the product's."""
_ROOM = 1 << 19
"""Twice the bytes that a product takes beside its inputs. Where ggml has no room for a graph, it ends the guest, and the model is lost."""
_REPEAT, _TURNS = 3, 6
_FEWEST, _ENOUGH = 3, 0.002
"""Turns that there are in any case, and seconds of this thread's processor time after which there is no other."""
_CLEARLY = 0.95
"""Of the time for pairs: what is hardly faster may be slower with other formats."""
_TRIALS, _PAUSE = 3, 0.5
"""Where machine code gets better while it runs: measurements, of which the last counts, and the seconds between two.

The first makes a browser compile both forms anew, which takes it up to 0.1 s beside the page.
"""
_KEPT = "kernels"
"""The name by which a page keeps the form."""
_measured: int | None = None


class ByteSums:
    """Which form the kernels of a guest use: the faster one, or the one that the environment names.

    Attributes:
        form: its name.
    """

    def __init__(self, guest: Guest) -> None:
        """Measure, unless that was done in this process. Where machine code gets better while it runs, take what is kept for now, or pairs.

        Raises:
            BackendUnavailable: the environment names no form.
            EngineError: the guest does not take it.
        """
        global _measured
        self._guest = guest
        form = _named()
        if form is None and _measured is None and guest.has_final_code:
            _measured = _measure(guest)
        known = _measured if form is None else form
        self._trials = _TRIALS if known is None else 0
        self._next = 0.0
        self._begun = _kept(guest) if known is None else known
        self._use(self._begun)

    def try_again(self) -> bool:
        """Between two calls of the guest, after a prompt: measure if that is still to be done; True if the form has changed."""
        global _measured
        if not self._trials or time.monotonic() < self._next:
            return False
        before, found = self.form, _measure(self._guest)
        self._next = time.monotonic() + _PAUSE
        if self._trials > 1 or found is None:
            self._use(self._begun)
        else:
            self._use(found)
            _measured = found
            self._guest.keep(_KEPT, self.form)
        self._trials -= 1  # only now: an interrupted measurement is made again
        return self.form != before

    def _use(self, form: int) -> None:
        if (found := self._guest.call("lb_byte_sums", form)) != form:
            raise EngineError(
                f"llama.wasm was told to sum bytes in {FORMS[form]}, and says {found}"
            )
        self.form = FORMS[form]


def _named() -> int | None:
    name = os.environ.get(ENVIRONMENT, "")
    if name and name not in FORMS:
        raise BackendUnavailable(
            "wasm",
            f"{ENVIRONMENT} is {name[:80]!r}",
            f"set it to {' or '.join(FORMS)}, or remove it: then the faster one is found",
        )
    return FORMS.index(name) if name else None


def _kept(guest: Guest) -> int:
    name = guest.recall(_KEPT)
    return FORMS.index(name) if name in FORMS else 0


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
        if not has_room(guest, _ROOM):
            return None
        pointers = struct.pack("<2I", start, start + len(weights))
        guest.write(start, weights + activations + params + pointers)
        inputs = start + given + len(params)
        arguments = (start + given, inputs, inputs + len(pointers))
        times: list[list[float]] = [[], []]
        spent = getattr(time, "thread_time", time.perf_counter)  # Pyodide has no thread_time
        began = spent()
        for turn in range(_TURNS):
            if turn >= _FEWEST and spent() - began > _ENOUGH:
                break
            for form in range(len(FORMS)):
                guest.call("lb_byte_sums", form)
                clock = time.perf_counter()
                if guest.call("lb_check", *arguments) != 1:
                    return None
                times[form].append(time.perf_counter() - clock)
    finally:
        guest.call("lb_free", start)
    # On a busy machine one of few turns is often lucky, so the best is not enough.
    return int(all(of(times[1]) < _CLEARLY * of(times[0]) for of in (min, _middle)))


def _middle(times: list[float]) -> float:
    return sorted(times)[len(times) // 2]
