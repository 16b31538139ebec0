"""Text to tokens and back, from any thread, even while another computes."""

from __future__ import annotations

import struct

from llama_bridge.engine_arguments import check_text, check_token
from llama_bridge.errors import EngineError
from llama_bridge.models.gguf import GgufHeader
from llama_bridge.models.long_runs import longest_run

from ..abi import Guest
from .calls import Calls
from .marshal import Buffer

__all__ = ["Vocabulary"]

# An attacker may control the guest. The sizes it reports must not become that much of the host's memory.
_MOST_TOKENS_PER_BYTE = 4
_MAX_PIECE = 1 << 15


class Vocabulary:
    """The vocabulary of the loaded model. It waits for at most one call into the guest."""

    def __init__(self, guest: Guest, calls: Calls, header: GgufHeader, n_vocab: int) -> None:
        self._guest = guest
        self._calls = calls
        self._header = header
        self._n_vocab = n_vocab
        self._buffer = Buffer(guest)  # separate from that of the thread that computes
        self._pieces: dict[int, bytes] = {}

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """See :meth:`Engine.tokenize`."""
        data = check_text("text", text).encode()
        longest_run(text, self._header)
        flags = (int(bool(add_special)), int(bool(parse_special)))
        at = len(data) + 3 & ~3
        # Rarely more tokens than bytes; a few extra for those that the model adds around a text.
        capacity = len(data) + 16
        self._calls.check_caller()
        with self._calls.turnstile, self._calls.lock:
            while True:
                pointer = self._buffer.reserve(at + 4 * capacity)
                self._guest.write(pointer, data)
                out = pointer + at
                n = self._calls.call("lb_tokenize", pointer, len(data), *flags, out, capacity)
                if n <= capacity:
                    break
                if n > _MOST_TOKENS_PER_BYTE * len(data) + 16:
                    raise EngineError(f"llama.wasm made {n:,} tokens of {len(data):,} bytes")
                capacity = n
            found = self._guest.read(out, 4 * n)
        return list(struct.unpack(f"<{n}i", found))

    def token_bytes(self, token: int, *, special: bool) -> bytes:
        """See :meth:`Engine.token_bytes`."""
        check_token(token, self._n_vocab)
        if not special and (known := self._pieces.get(token)) is not None:
            return known
        capacity = 256
        self._calls.check_caller()
        with self._calls.turnstile, self._calls.lock:
            while True:
                pointer = self._buffer.reserve(capacity)
                n = self._calls.call("lb_token_bytes", token, int(bool(special)), pointer, capacity)
                if n <= capacity:
                    break
                if n > _MAX_PIECE:
                    raise EngineError(
                        f"token {token} is {n:,} bytes long, but {_MAX_PIECE:,} is the limit"
                    )
                capacity = n
            piece = bytes(self._guest.read(pointer, n))
            if not special:
                self._pieces[token] = piece
        return piece

    def forget(self) -> None:
        """Drop the cache after the guest is closed, so that later calls raise."""
        self._pieces = {}
