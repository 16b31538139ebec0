"""Cheap calls of an instance on wasmtime, and what they may raise."""

# The raw C interface is private to wasmtime: pinned to one major version, used only here, untyped.
# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import ctypes
from typing import Any

import wasmtime
from wasmtime import _ffi as ffi

__all__ = ["FAILURES", "PreparedCall", "words"]

FAILURES = (wasmtime.Trap, wasmtime.WasmtimeError)
"""What a call may raise: two unrelated classes."""


class PreparedCall:
    """A prepared call; wasmtime's own ``Func.__call__`` takes ten times as long.

    It also distinguishes what that one confuses: a trap, and a KeyboardInterrupt during a call that succeeded.
    """

    def __init__(self, store: wasmtime.Store, function: Any) -> None:
        type_ = function.type(store)
        self._params: Any = (ffi.wasmtime_val_t * len(type_.params))()
        self._results: Any = (ffi.wasmtime_val_t * len(type_.results))()
        for value in self._params:
            value.kind = ffi.WASMTIME_I32
        self._function = function
        self._context = store._context()

    def __call__(self, args: tuple[int, ...]) -> int:
        """Call, and return the signed 32-bit result, 0 if there is none; raises one of :data:`FAILURES`."""
        if len(args) != len(self._params):
            raise TypeError(f"expected {len(self._params)} arguments, got {len(args)}")
        for value, arg in zip(self._params, args, strict=True):
            value.of.i32 = arg
        trap = ctypes.POINTER(ffi.wasm_trap_t)()
        error = None
        try:
            error = ffi.wasmtime_func_call(
                self._context,
                ctypes.byref(self._function._func),
                self._params,
                len(self._params),
                self._results,
                len(self._results),
                ctypes.byref(trap),
            )
        finally:
            if trap:
                raise wasmtime.Trap._from_ptr(trap)
        if error:
            raise wasmtime.WasmtimeError._from_ptr(error)
        return self._results[0].of.i32 if len(self._results) else 0


def words(error: Exception) -> str:
    """The first line of wasmtime's message, without the stack of numbered functions."""
    text = error.message if isinstance(error, wasmtime.Trap) else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no reason given"]
    return next((line for line in lines if "trap:" in line), lines[0])
