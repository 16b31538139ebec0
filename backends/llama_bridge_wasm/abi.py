"""llama.wasm's C ABI as Python sees it (``wasm/shim/lb.h`` has the words), and what a host must offer."""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from typing import Protocol

from llama_bridge.errors import EngineError

__all__ = [
    "ABI_VERSION",
    "CHECK_PARAMS",
    "LOAD_PARAMS",
    "MAX_MEMORY",
    "MODEL_PATH",
    "NO_TOKEN",
    "SAMPLER_PARAMS",
    "BadPointer",
    "CheckOp",
    "Guest",
    "Info",
    "Status",
]

ABI_VERSION = 4
MAX_MEMORY = 1 << 32
"""More than this no 32-bit module has."""
MODEL_PATH = "/model.gguf"
"""The name the guest knows the one file by."""
NO_TOKEN = -1

LOAD_PARAMS = struct.Struct("<7i")
"""n_ctx, n_batch, n_ubatch, n_threads, type_k, type_v, flash_attention."""
SAMPLER_PARAMS = struct.Struct("<Ififfifff")
"""seed, temperature, top_k, top_p, min_p, repeat_last_n, repeat, frequency and presence penalty."""
CHECK_PARAMS = struct.Struct("<11i3f")
"""op, type, packed, repeat, threads, six sizes; scale, ALiBi, soft cap."""


class Status(enum.IntEnum):
    """Negative results of a call."""

    BAD_ARGUMENT = -1
    NO_MODEL = -2
    CONTEXT_FULL = -3
    CANCELLED = -4
    OUT_OF_MEMORY = -5
    ENGINE_ERROR = -6


class CheckOp(enum.IntEnum):
    """Operations that ``lb_check`` does, for tests and benchmarks of the kernels."""

    PRODUCT = 0
    EXPERTS = 1
    ROWS = 2
    ATTENTION = 3
    SILU = 4
    SWIGLU = 5
    SOFTMAX = 6
    MALLOC = 7


class Info(enum.IntEnum):
    """What ``lb_info`` can be asked."""

    N_CTX = 0
    N_CTX_TRAIN = 1
    N_BATCH = 2
    N_VOCAB = 3
    N_EMBD = 4
    N_LAYER = 5
    BOS = 6
    EOS = 7
    EOT = 8
    ADD_BOS = 9
    N_SWA = 10
    IS_RECURRENT = 11
    IS_HYBRID = 12
    N_THREADS = 13


class BadPointer(EngineError):
    """What a guest, or an answer of it, points to lies outside of its memory."""

    def __init__(self, pointer: int, size: int) -> None:
        super().__init__(f"{size} bytes at {pointer} are outside of the guest's memory")


class Guest(Protocol):
    """One instance of llama.wasm in a host: its exports, its memory, and nothing of the host's own.

    Used from any thread, by one at a time, but for what :meth:`flag` gives.
    Pointers and sizes are whole numbers; every access is checked against the size of the guest's memory,
    and raises :class:`BadPointer` outside of it.
    """

    @property
    def version(self) -> str:
        """Of the host, for people to read."""
        ...

    @property
    def memory_size(self) -> int:
        """Bytes of linear memory the guest has now; it never shrinks."""
        ...

    @property
    def threads(self) -> int:
        """How many are to compute; so many were tried."""
        ...

    @property
    def has_threads(self) -> bool:
        """Whether more than one can compute: two at least were tried."""
        ...

    def call(self, name: str, *args: int) -> int:
        """Call an export; signed 32-bit result, 0 for none.

        Raises:
            EngineError: the guest trapped or left; it is dead from then on, and so says every later call.
            ClosedError: after :meth:`close`.
        """
        ...

    def read(self, pointer: int, size: int) -> bytearray:
        """A copy of guest memory."""
        ...

    def write(self, pointer: int, data: bytes) -> None:
        """Copy into guest memory."""
        ...

    def flag(self, pointer: int) -> Callable[[int], None]:
        """A function that writes an int32 there: from any thread, also during a call; after close, in vain."""
        ...

    def clear_stop(self) -> None:
        """Forget what the host's own way to stop says; called before work starts."""
        ...

    def pause(self) -> None:
        """Between two chunks of a prefill: let the host see to other things, where it must and can."""
        ...

    @property
    def chunk(self) -> int:
        """Most tokens between two pauses."""
        ...

    def close(self) -> None:
        """Give all memory back. Twice is silent."""
        ...
