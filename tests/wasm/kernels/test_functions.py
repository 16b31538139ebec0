"""The exponential and what is made of it, held against float64: silu, swiglu, softmax."""

from __future__ import annotations

import numpy as np
import pytest

from llama_bridge_wasm.abi import CheckOp, Guest

from .kernel_check import Array, check

SPECIAL = [0.0, -0.0, 1e-45, -1e-45, 1.2e-38, 1.0, -1.0, 87.0, -87.0, 88.0, -88.0, 88.7, -88.7]
FAR = [89.0, 104.0, -104.0, 1e4, -1e4, 1e30, -1e30, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan]
LENGTHS = [*range(1, 10), 100_001]


def silu(guest: Guest, x: Array) -> Array:
    x = np.atleast_2d(x).astype(np.float32)
    return check(guest, CheckOp.SILU, [x], x.shape, sizes=x.shape[::-1]).values


def softmax(guest: Guest, x: Array) -> Array:
    x = np.atleast_2d(x).astype(np.float32)
    return check(guest, CheckOp.SOFTMAX, [x], x.shape, sizes=x.shape[::-1]).values


def exact_silu(x: Array) -> Array:
    x = x.astype(np.float32).astype(np.float64)
    with np.errstate(all="ignore"):
        return np.asarray(x / (1 + np.exp(-x)))


def ulps(found: Array, exact: Array) -> Array:
    """How many units in the last place of single precision they are apart."""
    unit = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    return np.asarray(np.abs(found.astype(np.float64) - exact) / unit)


def exponentials(guest: Guest, x: Array) -> tuple[Array, Array]:
    """e to the power of each x, not above 0, as softmax has it before it divides; and the exact ones.

    The first value of the row is 0, and what becomes of it is the factor that all are multiplied with.
    """
    row = np.append(np.float32(0), x.astype(np.float32))
    found = softmax(guest, row)[0].astype(np.float64)
    return found[1:] / found[0], np.exp(row[1:].astype(np.float64))


@pytest.mark.parametrize("span", [1e-3, 1.0, 20.0, 80.0])
def test_the_exponential_and_a_multiplication_are_within_three_ulps(
    guest: Guest, span: float
) -> None:
    found, exact = exponentials(guest, -np.linspace(0, span, 100_001))
    # Multiplying with the factor rounds once more, by up to one unit.
    assert ulps(found, exact).max() < 3.2


def test_the_exponential_is_within_two_ulps_down_to_nothing(guest: Guest) -> None:
    x = -np.linspace(28, 110, 60_001)
    row = np.append(np.float32(0), x).astype(np.float32)
    for begin in range(1, len(row), 5000):  # so few and so small that the sum stays 1
        part = np.append(row[0], row[begin : begin + 5000])
        found, exact = softmax(guest, part)[0][1:], np.exp(part[1:].astype(np.float64))
        assert ulps(found, exact).max() < 2
        assert not found[part[1:] < -104].any()


def test_exponentials_of_more_than_a_number_holds(guest: Guest) -> None:
    """Of x below zero, silu is x divided by 1 + e to the power of -x."""
    x = np.linspace(-88.7, -17.5, 100_001)
    assert ulps(silu(guest, x)[0], exact_silu(x)).max() < 3.5
    assert not silu(guest, np.array([-89.0, -100, -1e30, -3.4e38])).any()


def test_the_exponential_never_falls(guest: Guest) -> None:
    for x in (np.linspace(-3, 0, 100_001), np.linspace(-103, -90, 2001)):
        found, _ = exponentials(guest, x)
        assert (np.diff(found) >= -np.spacing(found[1:].astype(np.float32))).all()
        assert (np.diff(found[::50]) >= 0).all()


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("size", [1e-30, 1.0, 20.0])
def test_silu(guest: Guest, n: int, size: float) -> None:
    x = np.random.default_rng(n).standard_normal((2, n)) * size
    assert ulps(silu(guest, x), exact_silu(x)).max() < 4


@pytest.mark.parametrize("n", LENGTHS)
def test_swiglu(guest: Guest, n: int) -> None:
    rng = np.random.default_rng(n)
    x = (rng.standard_normal((2, n)) * 8).astype(np.float32)
    gate = (rng.standard_normal((2, n)) * 100).astype(np.float32)
    found = check(guest, CheckOp.SWIGLU, [x, gate], x.shape, sizes=(n, 2)).values
    assert ulps(found, exact_silu(x) * gate.astype(np.float64)).max() < 5


@pytest.mark.parametrize("place", range(5))
def test_silu_over_all_that_single_precision_has(guest: Guest, place: int) -> None:
    values = np.array([0.0] * place + SPECIAL + FAR, np.float32)
    found, exact = silu(guest, values)[0], exact_silu(values)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(found, exact.astype(np.float32), rtol=5e-7, atol=3e-37)
    gate = np.full(len(values), -2, np.float32)
    gated = check(guest, CheckOp.SWIGLU, [values, gate], found.shape, sizes=(len(values), 1))
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(gated.values, found * gate)


def test_silu_of_every_magnitude(guest: Guest) -> None:
    x = np.arange(0, 1 << 32, 42_949, dtype=np.uint64).astype(np.uint32).view(np.float32)
    with np.errstate(invalid="ignore"):  # signalling NaN
        found, exact = silu(guest, x)[0], exact_silu(x)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(exact))
    kept = np.isfinite(exact)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(found[kept], exact[kept], rtol=5e-7, atol=3e-37)


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("size", [1e-30, 1.0, 30.0, 1e30])
def test_softmax(guest: Guest, n: int, size: float) -> None:
    x = (np.random.default_rng(n).standard_normal((3, n)) * size).astype(np.float32)
    x[1] -= np.float32(size * 50)
    shares = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True).astype(np.float64))
    found = softmax(guest, x).astype(np.float64)
    exact = shares / shares.sum(-1, keepdims=True)
    # The difference from the largest is rounded, which at -87 is 32 units of the result.
    np.testing.assert_allclose(found, exact, rtol=5e-6, atol=1e-44)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=0, atol=1e-6)


@pytest.mark.parametrize("n", range(2, 10))
def test_softmax_gives_nothing_to_what_is_masked(guest: Guest, n: int) -> None:
    for kept in range(n):
        x = np.full(n, -np.inf)
        x[kept] = -3e38
        np.testing.assert_array_equal(softmax(guest, x)[0], np.arange(n) == kept)


@pytest.mark.parametrize("n", range(1, 10))
def test_softmax_of_what_is_no_number_is_none(guest: Guest, n: int) -> None:
    x = np.zeros((4, n))
    x[0] = -np.inf
    x[1, n // 2], x[2, n - 1] = np.inf, np.nan
    found = softmax(guest, x)
    assert np.isnan(found[[0, 2]]).all()
    assert np.isnan(found[1, n // 2])
    np.testing.assert_allclose(found[3], 1 / n, rtol=1e-6)
