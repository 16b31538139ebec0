"""Settings as frozen data: how a model is loaded, and how the next token is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NoReturn, TypedDict, TypeVar, cast, get_args

from .checks import check_text, shown
from .errors import InvalidInput

__all__ = [
    "AUTO",
    "MAX_N_CTX",
    "Auto",
    "KvType",
    "LogitBias",
    "ModelParams",
    "ModelSettings",
    "Pooling",
    "SamplingParams",
    "SamplingSettings",
    "override",
]

Auto = Literal["auto"]
AUTO: Auto = "auto"
"""A setting that takes what fits."""
MAX_N_CTX = 1 << 24
"""The longest context that can be asked for."""
MAX_PARALLEL = 64
"""The most conversations that a KV cache can have at once."""
KvType = Literal["f32", "f16", "q8_0", "q4_0"]
LogitBias = Mapping[int | str, float] | Mapping[int, float] | Mapping[str, float]
"""What ``logit_bias`` takes: numbers by token id or by text."""
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
            ``"auto"`` takes the longest one, up to that which the model was trained with, whose KV cache fits beside the
            weights into the memory that is free now, less a tenth; in llama.wasm into ``memory_limit``, less a twentieth.
        n_batch: the most tokens that the engine gets at once during prefill.
        n_threads: threads that compute. 0 takes the physical cores that this process may use, or one thread for a
            model of a few MB.
        type_k, type_v: types of the K and V cache.
        flash_attn: use fused attention, which a quantised V cache needs. It is never chosen automatically,
            because a saved session fits only a context with the same choice.
        n_gpu_layers: how many layers run on a GPU, if the backend has ``GPU_OFFLOAD``; -1 takes all, ``"auto"`` as many
            as fit into the GPU's free memory, less a tenth. With 0 no GPU is touched.
        memory_limit: bytes of memory that llama.wasm may use, at most 4 GiB, which is the default. The native
            backend ignores it.
        check_memory: refuse a model that needs more memory than there is before it is read. Without this check it is
            tried; the system may then end the process.
        pooling: how ``embed`` makes one vector of a text's tokens; None as the model's file says. A model that was made
            to generate says nothing, and then cannot embed unless it is told ``"mean"`` or ``"last"``.
        n_parallel: how many conversations the KV cache has room for at once, and so how many answers are computed
            together. They share the ``n_ctx`` tokens; a call that finds no place waits.
        max_waiting: how many calls may wait for a place; one more raises :class:`~llama_bridge.Busy` at once.
    """

    n_ctx: int | Auto = 0
    n_batch: int = 512
    n_threads: int = 0
    type_k: KvType = "f16"
    type_v: KvType = "f16"
    flash_attn: bool = True
    n_gpu_layers: int | Auto = 0
    memory_limit: int = 4 << 30
    check_memory: bool = True
    pooling: Pooling | None = None
    n_parallel: int = 1
    max_waiting: int = 256

    def __post_init__(self) -> None:
        for name, low, high in (
            ("n_ctx", 0, MAX_N_CTX),
            ("n_batch", 1, 1 << 16),
            ("n_threads", 0, 512),
            ("n_parallel", 1, MAX_PARALLEL),
            ("max_waiting", 0, 1 << 16),
            ("n_gpu_layers", -1, 1 << 16),
            ("memory_limit", 1 << 20, 4 << 30),
        ):
            value = getattr(self, name)
            rule = f"a whole number from {low} to {high}"
            if name in ("n_ctx", "n_gpu_layers"):
                if value.__class__ is str and value == AUTO:
                    continue
                rule = f"{rule}, or {AUTO!r}"
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
        for name in ("flash_attn", "check_memory"):
            value = getattr(self, name)
            _check(isinstance(value, bool), name, value, "a bool")
        if self.type_v.startswith("q") and not self.flash_attn:
            raise InvalidInput(
                f"type_v={self.type_v!r} needs flash_attn=True: llama.cpp cannot read a "
                "quantised V cache without it"
            )

    def context_length(self, n_ctx_train: int) -> int:
        """The context length to use for a model that was trained with this one; "auto" counts as 0."""
        return self.asked_n_ctx or min(n_ctx_train, 4096) or 4096

    @property
    def asked_n_ctx(self) -> int:
        """``n_ctx`` as a number: 0 for "auto"."""
        return 0 if self.n_ctx == AUTO else self.n_ctx

    @property
    def asked_gpu_layers(self) -> int:
        """``n_gpu_layers`` as a number: 0 for "auto"."""
        return 0 if self.n_gpu_layers == AUTO else self.n_gpu_layers


class _LogitBias(dict[int | str, float]):
    """A mapping that does not change, so that settings can be compared and hashed."""

    __slots__ = ()

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return _LogitBias, (dict(self),)

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("logit_bias cannot be changed: make new settings")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse  # pyright: ignore[reportAssignmentType]


_NO_BIAS = _LogitBias({})
_MAX_BIASES = 1 << 16
_MAX_BIAS = 100_000
_MAX_BREAKERS = 64
_MAX_BREAKER_BYTES = 40  # llama.cpp cuts a longer one


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is drawn, in llama.cpp's terms and order.

    The order is: ``logit_bias``, penalties, DRY, top-n-sigma, top-k, typical, top-p, min-p, XTC, temperature, draw.
    With ``temperature=0`` everything from top-n-sigma to XTC is left out, and so is Mirostat. Mirostat takes the place
    of these samplers, and the temperature comes before it.

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
        logit_bias: what is added to the logits of single tokens, by token id or by text; ``-inf`` bans a token. A text
            must be exactly one token.
        dry_multiplier: how strongly DRY punishes tokens that continue a repeated sequence; 0 is off.
        dry_base: each further repeated token multiplies the punishment by this.
        dry_allowed_length: sequences up to this many tokens may be repeated.
        dry_penalty_last_n: how many recent tokens DRY looks at; -1 takes all.
        dry_sequence_breakers: texts at which a sequence ends, at most 40 bytes each.
        xtc_probability: how often XTC removes all but the least probable of the tokens above ``xtc_threshold``; 0 is off.
        xtc_threshold: the probability from which a token is a top choice for XTC; above 0.5 it never acts.
        typical_p: keep the most typical tokens whose probabilities add up to this; 1 keeps all.
        top_n_sigma: keep tokens within this many standard deviations of the best logit; 0 keeps all.
        mirostat: 2 draws by Mirostat 2, which aims at a constant surprise; 0 is off.
        mirostat_tau, mirostat_eta: the surprise that it aims at, in bits, and how fast it learns.
        dynatemp_range: the temperature moves by up to this, with the entropy of the distribution; 0 is off.
        dynatemp_exponent: how the entropy sets the temperature.
        speculate: guess what comes next from what was said before, and check several tokens at once. What is drawn
            stays the same, but for rounding, and comes faster where an answer quotes. It pauses where it does not pay.
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
    logit_bias: LogitBias = _NO_BIAS
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    typical_p: float = 1.0
    top_n_sigma: float = 0.0
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    speculate: bool = False

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
            ("dry_multiplier", 0.0, 100.0),
            ("dry_base", 1.0, 100.0),
            ("xtc_probability", 0.0, 1.0),
            ("xtc_threshold", 0.0, 1.0),
            ("typical_p", 0.0, 1.0),
            ("top_n_sigma", 0.0, 100.0),
            ("mirostat_tau", 0.0, 100.0),
            ("mirostat_eta", 0.0, 1.0),
            ("dynatemp_range", 0.0, 100.0),
            ("dynatemp_exponent", 0.0, 100.0),
        ):
            value = getattr(self, name)
            rule = f"a number from {low:g} to {high:g}"
            _check(_is_number(value) and low <= value <= high, name, value, rule)
        for name, low, high in (
            ("top_k", 0, 1 << 30),
            ("repeat_last_n", 0, 1 << 20),
            ("dry_allowed_length", 1, 1 << 20),
            ("dry_penalty_last_n", -1, 1 << 20),
        ):
            value = getattr(self, name)
            rule = f"a whole number of at least {low}"
            _check(_is_int(value) and low <= value <= high, name, value, rule)
        mirostat = self.mirostat
        _check(_is_int(mirostat) and mirostat in (0, 2), "mirostat", mirostat, "0 or 2")
        _check(isinstance(self.speculate, bool), "speculate", self.speculate, "a bool")
        breakers = _check_breakers(self.dry_sequence_breakers)
        object.__setattr__(self, "dry_sequence_breakers", breakers)
        object.__setattr__(self, "logit_bias", _check_bias(self.logit_bias))
        _check(
            self.seed is None or (_is_int(self.seed) and 0 <= self.seed < _UINT32 - 1),
            "seed",
            self.seed,
            f"None or a whole number from 0 to {_UINT32 - 2}",
        )


def _check_breakers(given: object) -> tuple[str, ...]:
    name, rule = "dry_sequence_breakers", f"a list of at most {_MAX_BREAKERS} texts"
    _check(isinstance(given, list | tuple), name, given, rule)
    breakers = tuple(cast("list[str]", given))
    _check(len(breakers) <= _MAX_BREAKERS, name, given, rule)
    for text in breakers:
        size = len(check_text(f"{name}: a text", text).encode())
        rule = f"texts of 1 to {_MAX_BREAKER_BYTES} bytes without NUL"
        _check(0 < size <= _MAX_BREAKER_BYTES and "\0" not in text, name, text, rule)
    return breakers


def _check_bias(given: object) -> _LogitBias:
    if isinstance(given, _LogitBias):
        return given
    rule = "a mapping from token ids or texts to numbers"
    _check(isinstance(given, Mapping), "logit_bias", given, rule)
    try:
        bias = dict(cast("Mapping[object, object]", given))
    except Exception as error:  # somebody's own class
        raise InvalidInput(f"logit_bias={shown(given)}: logit_bias must be {rule}") from error
    _check(len(bias) <= _MAX_BIASES, "logit_bias", given, f"{rule}, at most {_MAX_BIASES}")
    checked: dict[int | str, float] = {}
    for token, value in bias.items():
        if isinstance(token, str):
            _check(token != "", "logit_bias", given, f"{rule}, none of them empty")
            check_text("logit_bias: a text", token)
        elif isinstance(token, bool) or not isinstance(token, int) or token < 0:
            raise InvalidInput(f"logit_bias has {shown(token)}: give token ids or texts")
        if not _is_bias(value):
            raise InvalidInput(
                f"logit_bias[{shown(token)}]={shown(value)}: give a number from -100000 to 100000, or -inf to ban the token"
            )
        checked[token] = float(cast("float", value))
    return _LogitBias(checked)


def _is_bias(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -_MAX_BIAS <= value <= _MAX_BIAS or value == -math.inf


class ModelSettings(TypedDict, total=False):
    """The settings of :class:`ModelParams` as keywords, for type checkers and editors."""

    n_ctx: int | Auto
    n_batch: int
    n_threads: int
    type_k: KvType
    type_v: KvType
    flash_attn: bool
    n_gpu_layers: int | Auto
    memory_limit: int
    check_memory: bool
    pooling: Pooling | None
    n_parallel: int
    max_waiting: int


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
    logit_bias: LogitBias
    dry_multiplier: float
    dry_base: float
    dry_allowed_length: int
    dry_penalty_last_n: int
    dry_sequence_breakers: tuple[str, ...]
    xtc_probability: float
    xtc_threshold: float
    typical_p: float
    top_n_sigma: float
    mirostat: int
    mirostat_tau: float
    mirostat_eta: float
    dynatemp_range: float
    dynatemp_exponent: float
    seed: int | None
    speculate: bool


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
