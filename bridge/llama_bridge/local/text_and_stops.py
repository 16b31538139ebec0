"""Token bytes to text that can be shown: whole characters, and no part of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

__all__ = ["TextAssembler"]


class TextAssembler:
    """Collects the bytes of tokens and releases text as soon as it is certain.

    A character that is spread over several tokens is released with its last byte; one that is never
    completed is left out. Text that may begin a stop string is held back until that is decided. Bytes
    that cannot be UTF-8 become U+FFFD.

    Attributes:
        stop: the stop string that was found, or None.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stops = [s for s in stop if s]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._out: list[str] = []  # all text released so far
        self.stop: str | None = None

    @property
    def text(self) -> str:
        """All text released so far."""
        return "".join(self._out)

    def push(self, data: bytes) -> str:
        """Add the bytes of a token; returns the text that is now certain, possibly none."""
        text = self._decoder.decode(data)
        if not self._stops:
            self._out.append(text)
            return text
        self._held += text
        found = [(at, s) for s in self._stops if (at := self._held.find(s)) >= 0]
        if found:
            # The earliest match ends the text; of two at the same place, the longer one.
            at, self.stop = min(found, key=lambda match: (match[0], -len(match[1])))
            out = self._release(at)
            self._held = ""
            return out
        return self._release(len(self._held) - self._undecided())

    def finish(self) -> str:
        """Release what was held back for a stop string that did not come."""
        return self._release(len(self._held))

    def _release(self, n: int) -> str:
        out, self._held = self._held[:n], self._held[n:]
        self._out.append(out)
        return out

    def _undecided(self) -> int:
        """Length of the longest suffix of the held text that begins a stop string."""
        longest = max(len(s) for s in self._stops) - 1
        for n in range(min(longest, len(self._held)), 0, -1):
            end = self._held[-n:]
            if any(s.startswith(end) for s in self._stops):
                return n
        return 0
