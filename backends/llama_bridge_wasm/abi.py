"""llama.wasm's C ABI in Python (documented in ``wasm/shim/lb.h``), and what a host must provide."""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

from llama_bridge.errors import EngineError

__all__ = [
    "ABI_VERSION",
    "ADAPTER_PATH",
    "Accept",
    "BIAS",
    "CHECK_PARAMS",
    "EMBED_PARAMS",
    "EMBED_SEQUENCES",
    "LOAD_PARAMS",
    "LOGPROB",
    "MAX_MEMORY",
    "MODEL_PATH",
    "NO_TOKEN",
    "SAMPLER_PARAMS",
    "SCALE",
    "BadPointer",
    "CheckOp",
    "Guest",
    "Info",
    "Status",
    "model_paths",
]

ABI_VERSION = 9
MAX_MEMORY = 1 << 32
"""The most that a 32-bit module can have."""
MODEL_PATH = "/model.gguf"
"""The guest's name for its model in one file."""
ADAPTER_PATH = "/adapter.gguf"
"""Its name for the LoRA adapter that it is lent to read."""
NO_TOKEN = -1


def model_paths(n_files: int) -> list[str]:
    """The guest's names for the files of its model: llama.cpp finds the parts of a split one by them."""
    if n_files == 1:
        return [MODEL_PATH]
    base = MODEL_PATH.removesuffix(".gguf")
    return [f"{base}-{i:05d}-of-{n_files:05d}.gguf" for i in range(1, n_files + 1)]


LOAD_PARAMS = struct.Struct("<8i")
"""n_ctx, n_batch, n_ubatch, n_threads, type_k, type_v, flash_attention, n_parallel."""
SAMPLER_PARAMS = struct.Struct("<Ififfifffffffiffffffii")
"""seed, temperature, top_k, top_p, min_p, repeat_last_n, repeat, frequency and presence penalty; typical_p, top_n_sigma,
XTC's probability and threshold; mirostat, tau, eta; dynatemp's range and exponent; DRY's multiplier, base, allowed length
and number of tokens."""
BIAS = struct.Struct("<if")
"""token, bias."""
SCALE = struct.Struct("<f")
"""Of an adapter."""
LOGPROB = struct.Struct("<if")
"""token, log-probability."""
EMBED_PARAMS = struct.Struct("<6i")
"""pooling, flash_attention, n_sequences, n_tokens, n_batch, capacity."""
EMBED_SEQUENCES = 64
"""The most sequences in one ``lb_embed``."""
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
    NOT_FINITE = -7
    CACHE_FULL = -8


class CheckOp(enum.IntEnum):
    """Operations of ``lb_check``, for tests and benchmarks of the kernels."""

    PRODUCT = 0
    EXPERTS = 1
    ROWS = 2
    ATTENTION = 3
    SILU = 4
    SWIGLU = 5
    SOFTMAX = 6
    MALLOC = 7


class Accept(enum.IntEnum):
    """What accepts tokens in ``lb_accept``."""

    ALL = 0
    SAMPLERS = 1
    GRAMMAR = 2


class Info(enum.IntEnum):
    """Keys of ``lb_info``."""

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
    SEP = 20
    ADD_EOS = 21
    ADD_SEP = 22
    IS_ENCODER = 23


class BadPointer(EngineError):
    """A pointer from a guest, or from one of its results, is outside its memory."""

    def __init__(self, pointer: int, size: int) -> None:
        super().__init__(f"{size} bytes at {pointer} are outside the guest's memory")


class Guest(Protocol):
    """One instance of llama.wasm in a host: its exports and its memory, and nothing of the host's own.

    Any thread may use it, one at a time; only the function from :meth:`flag` can be called at any time.
    Pointers and sizes are whole numbers. Every access outside the guest's memory raises :class:`BadPointer`.
    """

    @property
    def version(self) -> str:
        """The host's version, for people to read."""
        ...

    @property
    def memory_size(self) -> int:
        """Bytes of the guest's linear memory now; it never shrinks."""
        ...

    @property
    def threads(self) -> int:
        """How many threads compute; that many were tried."""
        ...

    @property
    def has_threads(self) -> bool:
        """Whether more than one thread can compute; at least two were tried."""
        ...

    @property
    def has_final_code(self) -> bool:
        """Whether its machine code stays as it is: what takes so long once takes so long from then on."""
        ...

    def recall(self, name: str) -> str:
        """The word that the host keeps by this name from one process or visit to the next, or an empty one."""
        ...

    def keep(self, name: str, word: str) -> None:
        """Keep a word by this name, if the host can."""
        ...

    def call(self, name: str, *args: int) -> int:
        """Call an export and return its signed 32-bit result, or 0 if it has none.

        Raises:
            EngineError: the guest trapped or exited. It is dead from then on, and every later call raises too.
            ClosedError: after :meth:`close`.
        """
        ...

    def read(self, pointer: int, size: int) -> bytearray:
        """Copy from guest memory."""
        ...

    def write(self, pointer: int, data: bytes) -> None:
        """Copy into guest memory."""
        ...

    def lend(self, open_file: Callable[[], BinaryIO], size: int, path: Path) -> None:
        """Let the guest read another file, as :data:`ADAPTER_PATH`, until it is taken back.

        Args:
            open_file: opens it unbuffered.
            size: in bytes.
            path: its name for people.
        """
        ...

    def take_back(self) -> None:
        """Let the guest read only its model again."""
        ...

    def flag(self, pointer: int) -> Callable[[int], None]:
        """Return a function that writes an int32 there, from any thread, even during a call; after close it does nothing."""
        ...

    @property
    def stopped(self) -> bool:
        """Whether the host's own stop signal is set, if it has one. Who sets it resets it."""
        ...

    def pause(self) -> None:
        """Called between two chunks of a prefill: lets the host do other work, if it must and can."""
        ...

    @property
    def chunk(self) -> int:
        """The most tokens between two pauses."""
        ...

    def close(self) -> None:
        """Free all memory. A second call does nothing."""
        ...
