"""``/metrics``: what the server has done, in Prometheus' format."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from ..generation import Generation

__all__ = ["CONTENT_TYPE", "FirstToken", "Meters"]

CONTENT_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 1)
_PREFIX = "llama_bridge"


class Meters:
    """Counts. Each application has its own.

    Args:
        at_work: how many requests are answered or wait now.
        waiting: how many of them wait.
        kept: how many responses are kept.
        failures: how often something could not be kept.
        loaded: how many models are loaded.
        cached: how many tokens their KV caches hold.
        room: how many they have room for.
    """

    def __init__(
        self,
        *,
        at_work: Callable[[], float],
        waiting: Callable[[], float],
        kept: Callable[[], float],
        failures: Callable[[], float],
        loaded: Callable[[], float],
        cached: Callable[[], float],
        room: Callable[[], float],
    ) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            f"{_PREFIX}_requests",
            "Requests by path and status.",
            ("path", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            f"{_PREFIX}_request_seconds",
            "How long requests took.",
            ("path",),
            registry=registry,
            buckets=_SECONDS,
        )
        self._prompt = Counter(
            f"{_PREFIX}_prompt_tokens",
            "Tokens that answers were based on, by whether the KV cache had them.",
            ("source",),
            registry=registry,
        )
        self._completion = Counter(
            f"{_PREFIX}_completion_tokens", "Tokens of answers.", registry=registry
        )
        self._guessed = Counter(
            f"{_PREFIX}_guessed_tokens",
            "Tokens of answers that were guessed from what came before, by whether they came.",
            ("outcome",),
            registry=registry,
        )
        self._first = Histogram(
            f"{_PREFIX}_first_token_seconds",
            "From a request's arrival to the first piece of its answer, of streams.",
            registry=registry,
            buckets=_SECONDS,
        )
        self._token = Histogram(
            f"{_PREFIX}_token_seconds",
            "Time per token of an answer, on average over each answer.",
            registry=registry,
            buckets=_TOKEN_SECONDS,
        )
        for name, what, count in (
            ("requests_at_work", "Requests that are answered or wait.", at_work),
            ("requests_waiting", "Requests whose answer has not begun.", waiting),
            ("responses_kept", "Responses that requests may go on from.", kept),
            ("keeping_failures", "How often something could not be kept, or read back.", failures),
            ("models_loaded", "Models in memory.", loaded),
            ("kv_tokens", "Tokens in the KV caches of the models in memory.", cached),
            ("kv_room_tokens", "Tokens that they have room for.", room),
        ):
            Gauge(f"{_PREFIX}_{name}", what, registry=registry).set_function(count)
        for source in ("cached", "evaluated"):
            self._prompt.labels(source)
        for outcome in ("came", "failed"):
            self._guessed.labels(outcome)

    def seen(self, path: str, status: int, seconds: float) -> None:
        """A request has ended; status 0 if nobody was there to be told."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def answered(self, result: Generation) -> None:
        """An answer is whole."""
        usage = result.usage
        self._prompt.labels("cached").inc(usage.cached_tokens)
        self._prompt.labels("evaluated").inc(usage.evaluated_tokens)
        self._completion.inc(usage.completion_tokens)
        self._guessed.labels("came").inc(usage.accepted_tokens)
        self._guessed.labels("failed").inc(usage.drafted_tokens - usage.accepted_tokens)
        if usage.completion_tokens > 1:
            self._token.observe(usage.completion_seconds / usage.completion_tokens)

    def read(self, tokens: int) -> None:
        """Texts were embedded or ranked."""
        self._prompt.labels("evaluated").inc(tokens)

    def first_token(self, began: float) -> FirstToken:
        """Notes when the first piece of an answer comes; ``began`` is when the request came."""
        return FirstToken(self._first, began)

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self._registry)


class FirstToken:
    """Called with each piece of an answer; the first one counts."""

    def __init__(self, histogram: Histogram, began: float) -> None:
        self._histogram: Histogram | None = histogram
        self._began = began

    def __call__(self) -> None:
        """A piece has come."""
        if self._histogram is not None:
            self._histogram.observe(time.perf_counter() - self._began)
            self._histogram = None
