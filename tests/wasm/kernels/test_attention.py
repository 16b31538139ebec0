"""Attention with a half-precision K and V cache, held against float64: what is masked is as if it were not there."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from llama_bridge_wasm.abi import CheckOp, Guest

from .kernel_check import Array, Type, check, widened

CLOSE = 2e-5
"""Of the largest value: scores and sums are in single precision."""


@dataclasses.dataclass
class Case:
    """Queries [heads][tokens][head], K and V [heads / ratio][keys][head], mask [tokens][keys]."""

    q: Array
    k: Array
    v: Array
    mask: Array
    scale: float
    alibi: float = 0.0
    softcap: float = 0.0
    sinks: Array | None = None

    def slopes(self) -> Array:
        """Factors of the mask, one for each head: equation 3 of the ALiBi paper, as ggml has it."""
        heads = len(self.q)
        if self.alibi == 0:
            return np.ones(heads)
        below = 1 << int(math.log2(heads))
        first = [2.0 ** (-self.alibi / below * (i + 1)) for i in range(below)]
        then = [2.0 ** (-self.alibi / 2 / below * (2 * i + 1)) for i in range(heads - below)]
        return np.array(first + then)

    def expected(self) -> Array:
        """[tokens][heads][head]; zeros where nothing is to be seen."""
        ratio = len(self.q) // len(self.k)
        k, v = (np.repeat(x.astype(np.float64), ratio, 0) for x in (self.k, self.v))
        mask = self.slopes()[:, None, None] * self.mask.astype(np.float64)
        seen = mask > -np.inf
        result = np.zeros((*self.q.shape[:2], v.shape[-1]))
        with np.errstate(all="ignore"):
            scores = self.q.astype(np.float64) @ k.transpose(0, 2, 1) * self.scale
            if self.softcap:
                scores = self.softcap * np.tanh(scores / self.softcap)
            scores = np.where(seen, scores + mask, -np.inf)
            largest = scores.max(-1, keepdims=True)
            if self.sinks is not None:
                largest = np.maximum(largest, self.sinks[:, None, None])
            shares = np.where(seen, np.exp(scores - largest), 0)
            sums = shares.sum(-1)
            if self.sinks is not None:
                sums += np.exp(self.sinks[:, None] - largest[..., 0])
            for h, t in np.ndindex(*self.q.shape[:2]):
                at = seen[h, t]
                if at.any():
                    result[h, t] = shares[h, t, at] @ v[h, at] / sums[h, t]
        return result.transpose(1, 0, 2)

    def found(self, guest: Guest, threads: int = 1) -> Array:
        """The same from the guest."""
        heads, tokens, width = self.q.shape
        inputs = [self.q, self.k, self.v, self.mask.astype(np.float16)]
        return check(
            guest,
            CheckOp.ATTENTION,
            inputs if self.sinks is None else [*inputs, self.sinks],
            (tokens, heads, width),
            sizes=(width, tokens, heads, *self.k.shape[:2], int(self.sinks is not None)),
            type=int(Type.F16 if self.k.dtype == np.float16 else Type.F32),
            factors=(self.scale, self.alibi, self.softcap),
            threads=threads,
        ).values

    def hold(self, guest: Guest, close: float = CLOSE) -> None:
        """Both alike: numbers close, the rest the same."""
        expected, found = self.expected(), self.found(guest)
        size = np.abs(self.v[np.isfinite(self.v)].astype(np.float64)).max(initial=0.0)
        np.testing.assert_allclose(found, expected, rtol=0, atol=close * size + 1e-30)


def make(
    head: int = 64,
    heads: int = 4,
    ratio: int = 2,
    tokens: int = 3,
    keys: int = 100,
    seed: int = 0,
) -> Case:
    """Causal attention at random: the last token sees all keys."""
    rng = np.random.default_rng(seed)
    q = rng.standard_normal((heads, tokens, head)).astype(np.float32)
    k, v = (rng.standard_normal((heads // ratio, keys, head)).astype(np.float16) for _ in "kv")
    past = np.arange(keys) <= np.arange(tokens)[:, None] + max(0, keys - tokens)
    return Case(q, k, v, np.where(past, 0, -np.inf), 1 / math.sqrt(head))


@pytest.mark.parametrize("keys", [1, 31, 32, 33, 100, 256, 300])
@pytest.mark.parametrize("tokens", [1, 3, 17, 40])
@pytest.mark.parametrize("head", [64, 80, 96, 128, 256])
def test_any_shape(guest: Guest, head: int, tokens: int, keys: int) -> None:
    for heads, ratio in ((2, 1), (4, 2), (7, 7)):
        make(head, heads, ratio, tokens, keys).hold(guest)


@pytest.mark.parametrize(("heads", "ratio"), [(40, 40), (33, 33), (12, 3), (5, 5), (64, 1)])
def test_any_number_of_heads(guest: Guest, heads: int, ratio: int) -> None:
    for tokens in (1, 2, 9):
        make(64, heads, ratio, tokens, 70).hold(guest)


@pytest.mark.parametrize("head", [8, 16, 24, 40, 72, 112, 120, 192, 576])
def test_any_head_size(guest: Guest, head: int) -> None:
    make(head).hold(guest)
    make(head, tokens=40).hold(guest)


@pytest.mark.parametrize("head", [1, 2, 4, 7, 12, 20, 36, 68])
def test_a_head_size_that_is_not_a_multiple_of_eight_is_ggmls_own(guest: Guest, head: int) -> None:
    for tokens in (1, 3):
        make(head, tokens=tokens).hold(guest, close=5e-3)  # it sums at half precision


def test_a_single_precision_cache_is_ggmls_own(guest: Guest) -> None:
    case = make()
    case.k, case.v = case.k.astype(np.float32), case.v.astype(np.float32)
    case.hold(guest, close=5e-3)


@pytest.mark.parametrize("tokens", [1, 3, 40])
def test_whole_tiles_of_keys_are_masked(guest: Guest, tokens: int) -> None:
    case = make(tokens=tokens, keys=300, heads=7, ratio=7)
    case.mask[:, 32:96] = -np.inf  # for all
    case.mask[::2, 96:160] = -np.inf  # for some
    case.mask[0, :] = -np.inf
    case.mask[0, 290] = 0  # the last tile alone
    case.mask[-1, :] = -np.inf
    case.mask[-1, 3] = 0
    case.hold(guest)


@pytest.mark.parametrize("sinks", [False, True])
def test_who_sees_nothing_gets_zeros(guest: Guest, sinks: bool) -> None:
    case = make(tokens=5, heads=4)
    case.mask[[0, 3]] = -np.inf
    case.sinks = np.array([0.5, -3, 2, 100], np.float32) if sinks else None
    assert not case.expected()[[0, 3]].any()
    case.hold(guest)
    case.mask[:] = -np.inf
    assert not case.found(guest).any()


@pytest.mark.parametrize("heads", [1, 4, 7, 12, 16])
def test_alibi(guest: Guest, heads: int) -> None:
    for tokens in (1, 17):
        case = make(heads=heads, ratio=1 if heads % 2 else 2, tokens=tokens, keys=100)
        distance = np.arange(tokens)[:, None] + 100 - tokens - np.arange(100)
        case.mask = np.where(distance >= 0, -distance.astype(np.float64), -np.inf)
        case.alibi = 8.0
        case.hold(guest)


@pytest.mark.parametrize("softcap", [30.0, 50.0])
@pytest.mark.parametrize("size", [1.0, 10.0, 1e4])
def test_soft_cap(guest: Guest, softcap: float, size: float) -> None:
    case = make(tokens=17)
    case.q *= np.float32(size)
    case.softcap = softcap
    case.hold(guest)


@pytest.mark.parametrize("sink", [-1e4, -5.0, 0.0, 3.0, 1e4, -np.inf])
def test_sinks(guest: Guest, sink: float) -> None:
    for tokens in (1, 17):
        case = make(tokens=tokens)
        case.sinks = np.array([sink, 0, sink + 1, -2], np.float32)
        case.hold(guest)


def whole(case: Case, largest: int) -> None:
    """Scores that are whole numbers, exact in single precision, up to about `largest`."""
    rng = np.random.default_rng(7)
    case.q = rng.integers(-8, 9, case.q.shape).astype(np.float32)
    case.k = rng.integers(-8, 9, case.k.shape).astype(np.float16)
    case.scale = 2.0 ** round(math.log2(largest / 1000))


@pytest.mark.parametrize("largest", [100, 10_000, 1_000_000])
@pytest.mark.parametrize("order", [1, -1, 0])
def test_large_scores(guest: Guest, largest: int, order: int) -> None:
    case = make(heads=1, ratio=1, tokens=1, keys=300)
    whole(case, largest)
    if order:  # each tile has a new largest one, or none has
        case.k = case.k[:, np.argsort(order * (case.k[0] @ case.q[0, 0]))]
    case.hold(guest)
    case = make(tokens=17, keys=300)
    whole(case, largest)
    case.hold(guest)


def test_scores_that_are_all_far_below_zero(guest: Guest) -> None:
    case = make(tokens=3)
    case.q[:] = -1000
    case.k[:] = np.float16(16) + case.k.round()
    case.scale = 1.0
    case.hold(guest)


def test_finite_masks_are_added(guest: Guest) -> None:
    case = make(tokens=17)
    case.mask += np.random.default_rng(5).integers(-64, 1, case.mask.shape) / 8
    case.mask[:, 40] = -65504
    case.mask[3, :] = -128
    case.hold(guest)


def test_every_half_precision_value(guest: Guest) -> None:
    """One key to see: the result is its V."""
    case = make(head=128, heads=512, ratio=1, tokens=1, keys=1)
    case.v = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(case.v.shape)
    expected = widened(case.v).reshape(1, 512, 128)
    np.testing.assert_array_equal(case.found(guest), expected)


def test_every_half_precision_key(guest: Guest) -> None:
    """A score that is one number of K, against one of 0: what gets which share."""
    bits = np.arange(65536, dtype=np.uint16).view(np.float16)
    bits = bits[np.isfinite(bits)]
    case = make(head=8, heads=len(bits), ratio=1, tokens=1, keys=2)
    case.q[:] = 0
    case.q[:, 0, 5] = 1
    case.k[:] = 0
    case.k[:, 0, 5] = bits
    case.scale = 2.0**-10
    case.mask[:] = 0
    case.hold(guest)
    case.scale = 2.0**20  # where subnormal numbers matter
    case.hold(guest)


@pytest.mark.parametrize("tokens", [1, 17])
def test_subnormal_keys_and_values(guest: Guest, tokens: int) -> None:
    case = make(tokens=tokens)
    rng = np.random.default_rng(3)
    for x in (case.k, case.v):
        x[:] = rng.integers(0, 0x400, x.shape).astype(np.uint16).view(np.float16)
    case.scale = 2.0**13
    case.hold(guest)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["k", "v"])
@pytest.mark.parametrize("tokens", [1, 3, 40])
def test_what_nobody_sees_may_be_no_number(
    guest: Guest, where: str, bad: float, tokens: int
) -> None:
    case = make(tokens=tokens, keys=100)
    for key in (5, 40, 41):
        getattr(case, where)[:, key, :] = bad
        case.mask[:, key] = -np.inf
    assert np.isfinite(case.expected()).all()
    case.hold(guest)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["k", "v"])
def test_what_some_see_is_no_number_for_them_alone(guest: Guest, where: str, bad: float) -> None:
    """The first head sees the number itself, tokens before it do not; nor do those of other K and V."""
    case = make(tokens=40, keys=80, heads=4, ratio=2)
    getattr(case, where)[0, 60, 3] = bad
    found = case.found(guest)
    sees = case.mask[:, 60] == 0
    assert sees.any()
    assert not sees.all()
    expected = case.expected()
    np.testing.assert_allclose(found[:, 2:], expected[:, 2:], rtol=0, atol=1e-4)
    np.testing.assert_allclose(found[~sees, :2], expected[~sees, :2], rtol=0, atol=1e-4)
    if where == "v":
        assert not np.isfinite(found[sees, :2, 3]).any()
    elif np.isnan(bad):
        assert np.isnan(found[sees, :2]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_query_that_is_no_number_spoils_its_token_alone(guest: Guest, bad: float) -> None:
    case = make(tokens=17)
    expected = case.found(guest)
    case.q[1, 4, 7] = bad
    found = case.found(guest)
    assert not np.isfinite(found[4, 1]).any()
    found[4, 1] = expected[4, 1]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
