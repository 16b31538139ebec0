"""From token bytes to text that can be shown: whole characters, nothing of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

__all__ = ["TextAssembler"]


class TextAssembler:
    """Collects the bytes of tokens and lets text out as soon as it is certain.

    A character whose bytes are spread over tokens comes out whole, when its last byte is there; one that
    is never finished is left out. Text that may be the beginning of a stop string is held back until it
    is decided. Bytes that can be no UTF-8 at all become U+FFFD.

    Attributes:
        stop: the stop string that was found, or None.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stops = [s for s in stop if s]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._out: list[str] = []  # all that was let out
        self.stop: str | None = None

    @property
    def text(self) -> str:
        """All the text let out so far."""
        return "".join(self._out)

    def push(self, data: bytes) -> str:
        """Add the bytes of a token; returns the text that is certain now, possibly none."""
        text = self._decoder.decode(data)
        if not self._stops:
            self._out.append(text)
            return text
        self._held += text
        found = [(at, s) for s in self._stops if (at := self._held.find(s)) >= 0]
        if found:
            # The earliest match ends the text; of two at one place the longer one is meant.
            at, self.stop = min(found, key=lambda match: (match[0], -len(match[1])))
            out = self._release(at)
            self._held = ""
            return out
        return self._release(len(self._held) - self._undecided())

    def finish(self) -> str:
        """Let out what was held back for a stop string that did not come."""
        return self._release(len(self._held))

    def _release(self, n: int) -> str:
        out, self._held = self._held[:n], self._held[n:]
        self._out.append(out)
        return out

    def _undecided(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = max(len(s) for s in self._stops) - 1
        for n in range(min(longest, len(self._held)), 0, -1):
            end = self._held[-n:]
            if any(s.startswith(end) for s in self._stops):
                return n
        return 0
