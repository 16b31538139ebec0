"""The fake's embeddings: texts that share words are close."""

from __future__ import annotations

import re
import zlib

__all__ = ["WIDTH", "overlap", "vector"]

WIDTH = 256


def vector(text: str) -> list[float]:
    """Counts of words, each in one of a few places: the same text gives the same vector, everywhere."""
    found = [0.0] * WIDTH
    found[0] = 0.125  # a text without words has a direction too
    for word in _words(text):
        found[1 + zlib.crc32(word.encode()) % (WIDTH - 1)] += 1.0
    return found


def overlap(query: str, document: str) -> float:
    """The share of the query's words that are in a document, a little less for a longer document."""
    wanted, there = set(_words(query)), _words(document)
    share = len(wanted & set(there)) / max(1, len(wanted))
    return share - len(there) / 1_000_000


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
