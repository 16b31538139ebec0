"""One instance of llama.wasm on wasmtime, in its own store, over a memory that it may share with others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import wasmtime

from llama_bridge.on_wasmtime.prepared_call import PreparedCall

from ..wasi import WASI
from .module import Compiled

__all__ = ["Instance"]

# Called during a decode, where a Python function could lose a Ctrl-C: ctypes raises a signal that is pending as it
# enters Python, before the first line, and it is lost. Neither function opens anything.
_FROM_WASMTIME = ("clock_time_get", "random_get")

# (module (func (export "stop") (result i32) i32.const 0)): a function in Python would cost 8 µs a call.
_NEVER = bytes.fromhex("0061736d010000000105016000017f030201000708010473746f7000000a0601040041000b")


class Instance:
    """Exports that one thread at a time can call.

    Args:
        compiled: the module.
        memory: a shared memory, or a function that makes an ordinary one in the instance's store.
        imports: WASI functions that Python implements.
        unknown: implements all others.
        spawn: starts a thread of the guest.
    """

    def __init__(
        self,
        compiled: Compiled,
        memory: Callable[[wasmtime.Store], Any],
        imports: Mapping[str, Callable[..., int | None]],
        unknown: Callable[..., int | None],
        spawn: Callable[[int], int],
    ) -> None:
        self.store = wasmtime.Store(compiled.engine)
        linker = wasmtime.Linker(compiled.engine)
        try:
            self._exports = self._link(linker, compiled, memory, imports, unknown, spawn)
        except BaseException:
            self.store.close()
            raise
        finally:
            linker.close()  # like the store, at once: they hold gigabytes of address space

    def _link(
        self,
        linker: wasmtime.Linker,
        compiled: Compiled,
        memory: Callable[[wasmtime.Store], Any],
        imports: Mapping[str, Callable[..., int | None]],
        unknown: Callable[..., int | None],
        spawn: Callable[[int], int],
    ) -> dict[str, PreparedCall]:
        store = self.store
        linker.define_wasi()
        linker.allow_shadowing = True
        store.set_wasi(wasmtime.WasiConfig())
        stop = wasmtime.Instance(store, wasmtime.Module(compiled.engine, _NEVER), [])
        linker.define(store, "lb_host", "stop", stop.exports(store)["stop"])
        linker.define_func(
            "lb_host",
            "spawn",
            wasmtime.FuncType([wasmtime.ValType.i32()], [wasmtime.ValType.i32()]),
            spawn,
        )
        linker.define(store, compiled.memory.module, compiled.memory.name, memory(store))
        for wanted in compiled.module.imports:
            name = wanted.name or ""
            if (
                wanted.module == WASI
                and isinstance(wanted.type, wasmtime.FuncType)
                and name not in _FROM_WASMTIME
            ):
                linker.define_func(WASI, name, wanted.type, imports.get(name, unknown))
        exports = linker.instantiate(store, compiled.module).exports(store)
        return {
            export.name: PreparedCall(store, exports[export.name])
            for export in compiled.module.exports
            if isinstance(export.type, wasmtime.FuncType)
        }

    def call(self, name: str, *args: int) -> int:
        """Call an export and return its signed 32-bit result, 0 if none; raises one of :data:`~.prepared_call.FAILURES`."""
        return self._exports[name](args)

    def close(self) -> None:
        """Free the store, and its memory if no other instance shares it."""
        self._exports = {}
        self.store.close()
