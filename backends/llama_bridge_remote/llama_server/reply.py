"""Reads the events of ``/completion``: text, and which tokens it has."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from llama_bridge.errors import ClosedError, EngineError
from llama_bridge.generation import Fallback, FinishReason, Generation, Mode, TokenLogprob, Usage
from llama_bridge.progress import OnProgress, Progress

from ..answer import Reply
from ..token_logprobs import read_logprobs
from .vocabulary import Vocabulary

__all__ = ["Asked", "CompletionReply"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked, as far as the answer tells it.

    Attributes:
        mode, fallback, seed: as in :class:`llama_bridge.Generation`.
        n_prompt: tokens of the prompt.
        logprobs: how many of the best tokens to report, or None.
        on_progress: called with the progress of the prefill, or None.
    """

    mode: Mode
    fallback: Fallback | None
    seed: int
    n_prompt: int
    logprobs: int | None
    on_progress: OnProgress | None = None


class CompletionReply(Reply):
    """An answer.

    The server tells one token with each piece of text. Where a character has several, or a stop string was waited for, the
    others are found by tokenising that piece, if that gives as many as are missing; if not, the rest of the answer is
    unknown as tokens, and tokenised as text when the conversation goes on.

    Args:
        asked: what was asked.
        vocabulary: of the server's model.

    Attributes:
        slot: the slot that has the conversation now, or -1 while that is not known.
    """

    def __init__(self, asked: Asked, vocabulary: Vocabulary) -> None:
        self.asked = asked
        self.slot = -1
        self._vocabulary = vocabulary
        self._tokens: list[int] = []
        self._texts: list[str] = []
        self._marks: list[int] = []
        self._sure = True
        self._predicted = 0
        self._done = 0
        self._logprobs: list[TokenLogprob] = []
        self._stop_type = ""
        self._timings: Mapping[str, Any] = {}

    def mark(self) -> int:
        """How many tokens came."""
        return len(self._tokens)

    def hear(self, event: Mapping[str, Any]) -> str:
        """See :meth:`Reply.hear`."""
        self._tell_progress(event.get("prompt_progress"))
        if isinstance(timings := event.get("timings"), dict):
            self._timings = cast("Mapping[str, Any]", timings)
        text = event.get("content")
        text = text if isinstance(text, str) else ""
        tokens = [int(token) for token in cast("Sequence[int]", event.get("tokens") or ())]
        predicted = event.get("tokens_predicted")
        if self.asked.logprobs is not None:
            found = event.get("completion_probabilities")
            self._logprobs += read_logprobs(found, self.asked.logprobs)
        if isinstance(predicted, int):
            missing = predicted - self._predicted - len(tokens)
            self._predicted = predicted
            if missing > 0 and self._sure:
                self._find(text, tokens, missing)
        self._tokens += tokens
        if text:
            self._texts.append(text)
        if event.get("stop"):
            self.whole = True
            self._stop_type = str(event.get("stop_type") or "")
            slot = event.get("id_slot")
            self.slot = slot if isinstance(slot, int) else -1
            if self._stop_type == "eos" and self._tokens and self._sure:
                self._vocabulary.ends_with(self._tokens[-1])
        return text

    def _tell_progress(self, given: object) -> None:
        if self.asked.on_progress is None or not isinstance(given, dict):
            return
        told = cast("Mapping[str, Any]", given)
        total, done = _whole(told.get("total")), _whole(told.get("processed"))
        if total and self._done < done <= total:
            self._done = done
            self.asked.on_progress(Progress("prefill", done, total, "tokens"))

    def _find(self, text: str, tokens: list[int], missing: int) -> None:
        """Find the tokens that the server left out before this one."""
        with contextlib.suppress(EngineError):
            found = self._vocabulary.tokenize(text, add_special=False, parse_special=False)
            if len(found) == missing + len(tokens) and found[missing:] == tokens:
                self._tokens += found[:missing]
                return
        self._sure = False

    def tokens(self, text: str, mark: int | None) -> list[int]:
        """The tokens of the answer, as the conversation goes on from them."""
        if mark is not None:
            cut = self._tokens[:mark]
            if self._sure:
                return cut
        elif self._sure and self._stop_type != "word":
            return list(self._tokens)
        try:
            return self._vocabulary.tokenize(text, add_special=False, parse_special=False)
        except (EngineError, ClosedError):  # as far as they are known
            return self._tokens[:mark]

    def generation(self, text: str, mark: int | None) -> Generation:
        """See :meth:`Reply.generation`."""
        asked, timings = self.asked, self._timings
        finish: FinishReason = "cancelled"
        if mark is None:
            finish = "length" if self._stop_type == "limit" else "stop"
        cached = min(asked.n_prompt, _whole(timings.get("cache_n")))
        completion = self._predicted if mark is None else mark
        evaluated = asked.n_prompt - cached
        logprobs = None if asked.logprobs is None else tuple(self._logprobs[: completion or 0])
        return Generation(
            text=text,
            finish_reason=finish,
            mode=asked.mode,
            usage=Usage(
                prompt_tokens=asked.n_prompt,
                cached_tokens=cached,
                evaluated_tokens=evaluated,
                completion_tokens=completion,
                prompt_seconds=_seconds(timings.get("prompt_ms")),
                completion_seconds=_seconds(timings.get("predicted_ms")),
            ),
            fallback=asked.fallback,
            seed=asked.seed,
            logprobs=logprobs,
        )


def _whole(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _seconds(value: object) -> float:
    return value / 1000 if isinstance(value, int | float) and value > 0 else 0.0
