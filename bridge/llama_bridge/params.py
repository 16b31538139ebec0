"""Settings as frozen data: how a model is loaded, and how the next token is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict, TypeVar, cast, get_args

from .checks import shown
from .errors import InvalidInput

__all__ = [
    "KvType",
    "ModelParams",
    "ModelSettings",
    "Pooling",
    "SamplingParams",
    "SamplingSettings",
    "override",
]

KvType = Literal["f32", "f16", "q8_0", "q4_0"]
Pooling = Literal["none", "mean", "cls", "last", "rank"]
"""How the vectors of a text's tokens become one: not at all, their mean, the first or last one, a reranker's scores."""

_UINT32 = 2**32
_HUGE = 1e300


def _check(ok: bool, name: str, value: object, rule: str) -> None:
    if not ok:
        raise InvalidInput(f"{name}={shown(value)}: {name} must be {rule}")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -_HUGE < value < _HUGE  # excludes NaN too, and integers too large for a float


@dataclass(frozen=True, slots=True)
class ModelParams:
    """Settings of a load. They shape the KV cache, so they are fixed until the next load.

    Attributes:
        n_ctx: how many tokens the context can hold; llama.cpp rounds it up to a multiple of 256. 0 takes the length
            that the model was trained with, but at most 4,096, because the whole KV cache is allocated at once.
        n_batch: the most tokens that the engine gets at once during prefill.
        n_threads: threads that compute. 0 takes the physical cores that this process may use, or one thread for a
            model of a few MB.
        type_k, type_v: types of the K and V cache.
        flash_attn: use fused attention, which a quantised V cache needs. It is never chosen automatically,
            because a saved session fits only a context with the same choice.
        n_gpu_layers: how many layers run on a GPU, if the backend has ``GPU_OFFLOAD``; -1 takes all.
        memory_limit: bytes of memory that llama.wasm may use, at most 4 GiB, which is the default. The native
            backend ignores it.
        pooling: how ``embed`` makes one vector of a text's tokens; None as the model's file says. A model that was made
            to generate says nothing, and then cannot embed unless it is told ``"mean"`` or ``"last"``.
    """

    n_ctx: int = 0
    n_batch: int = 512
    n_threads: int = 0
    type_k: KvType = "f16"
    type_v: KvType = "f16"
    flash_attn: bool = True
    n_gpu_layers: int = 0
    memory_limit: int = 4 << 30
    pooling: Pooling | None = None

    def __post_init__(self) -> None:
        for name, low, high in (
            ("n_ctx", 0, 1 << 24),
            ("n_batch", 1, 1 << 16),
            ("n_threads", 0, 512),
            ("n_gpu_layers", -1, 1 << 16),
            ("memory_limit", 1 << 20, 4 << 30),
        ):
            value = getattr(self, name)
            rule = f"a whole number from {low} to {high}"
            _check(_is_int(value) and low <= value <= high, name, value, rule)
        types = get_args(KvType)
        for name in ("type_k", "type_v"):
            value = getattr(self, name)
            _check(isinstance(value, str) and value in types, name, value, f"one of {types}")
        kinds = get_args(Pooling)
        _check(
            self.pooling is None or (isinstance(self.pooling, str) and self.pooling in kinds),
            "pooling",
            self.pooling,
            f"None or one of {kinds}",
        )
        _check(
            isinstance(self.flash_attn, bool),
            "flash_attn",
            self.flash_attn,
            "a bool",
        )
        if self.type_v.startswith("q") and not self.flash_attn:
            raise InvalidInput(
                f"type_v={self.type_v!r} needs flash_attn=True: llama.cpp cannot read a "
                "quantised V cache without it"
            )

    def context_length(self, n_ctx_train: int) -> int:
        """The context length to use for a model that was trained with this one."""
        return self.n_ctx or min(n_ctx_train, 4096) or 4096


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is drawn, in llama.cpp's terms and order.

    Attributes:
        max_tokens: the most tokens to generate; None allows as many as fit the context.
        temperature: 0 is greedy: always take the most probable token.
        top_k: keep the k most probable tokens; 0 keeps all.
        top_p: keep the smallest set of tokens whose probabilities add up to this; 1 keeps all.
        min_p: drop tokens that are less probable than this share of the best one; 0 keeps all.
        repeat_penalty: divide the logits of recent tokens by this; 1 is off.
        frequency_penalty, presence_penalty: subtract this from the logits of recent tokens; 0 is off.
        repeat_last_n: how many recent tokens the penalties look at.
        seed: the same seed, model, backend and history give the same text; None draws a new seed. How much of the
            prompt is cached affects rounding: for identical bits call ``session_reset()`` first.
    """

    max_tokens: int | None = 512
    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repeat_last_n: int = 64
    seed: int | None = None

    def __post_init__(self) -> None:
        limit = self.max_tokens
        _check(
            limit is None or (_is_int(limit) and limit >= 1),
            "max_tokens",
            limit,
            "a whole number of at least 1, or None",
        )
        for name, low, high in (
            ("temperature", 0.0, 100.0),
            ("top_p", 0.0, 1.0),
            ("min_p", 0.0, 1.0),
            ("repeat_penalty", 0.01, 100.0),
            ("frequency_penalty", -100.0, 100.0),
            ("presence_penalty", -100.0, 100.0),
        ):
            value = getattr(self, name)
            rule = f"a number from {low:g} to {high:g}"
            _check(_is_number(value) and low <= value <= high, name, value, rule)
        for name, high in (("top_k", 1 << 30), ("repeat_last_n", 1 << 20)):
            value = getattr(self, name)
            rule = "a whole number of at least 0"
            _check(_is_int(value) and 0 <= value <= high, name, value, rule)
        _check(
            self.seed is None or (_is_int(self.seed) and 0 <= self.seed < _UINT32 - 1),
            "seed",
            self.seed,
            f"None or a whole number from 0 to {_UINT32 - 2}",
        )


class ModelSettings(TypedDict, total=False):
    """The settings of :class:`ModelParams` as keywords, for type checkers and editors."""

    n_ctx: int
    n_batch: int
    n_threads: int
    type_k: KvType
    type_v: KvType
    flash_attn: bool
    n_gpu_layers: int
    memory_limit: int
    pooling: Pooling | None


class SamplingSettings(TypedDict, total=False):
    """The settings of :class:`SamplingParams` as keywords, for type checkers and editors."""

    max_tokens: int | None
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repeat_penalty: float
    frequency_penalty: float
    presence_penalty: float
    repeat_last_n: int
    seed: int | None


P = TypeVar("P", ModelParams, SamplingParams)


def override(base: P, settings: ModelSettings | SamplingSettings) -> P:
    """``base`` with some settings changed, the rest kept.

    Raises:
        InvalidInput: there is no setting of that name, or a value is out of range.
    """
    if not settings:
        return base
    given = cast("Mapping[str, Any]", settings)
    known = base.__dataclass_fields__
    for name in given:
        if name not in known:
            raise InvalidInput(
                f"{name}=...: no setting of that name; choose from: {', '.join(known)}"
            )
    return replace(base, **given)
