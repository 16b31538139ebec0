"""Products with packed weights, held against float64: exact codes, exact sums, whatever the numbers are.

The reference rounds the activations as the kernels do. So what is left is the rounding of the sums, and one wrong code or
activation would show.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gguf
import numpy as np
import pytest

from llama_bridge_wasm.abi import CheckOp, Guest

from .kernel_check import (
    FORMATS,
    KERNELS,
    Array,
    Format,
    Kernel,
    Type,
    check,
    coded,
    dequantized,
    half_places,
    halves,
    multiply,
    parts,
    product,
    random_weights,
    rounded,
    set_halves,
    widened,
)

EXACT = 1e-6
"""Of the sum of the magnitudes of what is added up."""


@pytest.fixture(params=KERNELS, ids=str)
def format(request: pytest.FixtureRequest, guest: Guest) -> Iterator[Format]:
    """A format, and the kernels that multiply it: in one form, or in two."""
    kernel: Kernel = request.param
    assert guest.call("lb_byte_sums", kernel.form) == kernel.form
    yield kernel.format
    guest.call("lb_byte_sums", 0)


def activations(n: int, k: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).standard_normal((n, k)).astype(np.float32)


def hold(guest: Guest, format: Format, raw: Array, x: Array, tiny: float = 0.0) -> None:
    """All columns together, where four go at once, and each alone."""
    exact, size = product(format, raw, x)
    together = multiply(guest, format, raw, x)
    assert together.packed
    np.testing.assert_array_less(np.abs(together.values - exact), EXACT * size + tiny + 1e-44)
    for i in range(len(x)) if len(x) > 3 else ():
        alone = multiply(guest, format, raw, x[i : i + 1]).values[0]
        np.testing.assert_array_less(np.abs(alone - exact[i]), EXACT * size[i] + tiny + 1e-44)


def lengths(format: Format) -> list[int]:
    """One unit, a few, and such as do not end with the 2,048 or 1,024 values that are expanded at a time."""
    return [format.unit, 3 * format.unit, 1024 + format.unit, 2048 + format.unit, 4096 + 1024]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 64, 65])
def test_any_number_of_tokens(guest: Guest, format: Format, n: int) -> None:
    raw, x = random_weights(format, 24, 512, n), activations(n, 512)
    for packed in (True, False):
        exact, size = product(format, raw, x, packed)
        found = multiply(guest, format, raw, x, packed)
        assert found.packed == packed
        np.testing.assert_array_less(np.abs(found.values - exact), EXACT * size)


def test_a_token_alone_has_the_bits_that_it_has_in_any_batch(guest: Guest, format: Format) -> None:
    """So an answer in company is the one that it is alone."""
    for k in (format.unit, 2048 + format.unit):
        raw, x = random_weights(format, 16, k, k), activations(37, k)
        alone = np.stack([multiply(guest, format, raw, row[None]).values[0] for row in x])
        for n in (*range(2, 10), 37):
            np.testing.assert_array_equal(multiply(guest, format, raw, x[:n]).values, alone[:n])


@pytest.mark.parametrize("rows", [8, 16, 40])
def test_any_length_of_a_row(guest: Guest, format: Format, rows: int) -> None:
    for k in lengths(format):
        raw, x = random_weights(format, rows, k, k), activations(6, k)
        exact, size = product(format, raw, x)
        found = multiply(guest, format, raw, x)
        assert found.packed
        np.testing.assert_array_less(np.abs(found.values - exact), EXACT * size)


@pytest.mark.parametrize("rows", [8, 11])
@pytest.mark.parametrize("threads", [1, 2])
def test_long_rows_meet_many_tokens_in_pieces(
    guest: Guest, format: Format, rows: int, threads: int
) -> None:
    """More activations than stay in the second-level cache; and more tokens than go at once, the last of them alone."""
    k, n = 2560 + format.unit, 261
    raw, x = random_weights(format, rows, k), activations(n, k)
    exact, size = product(format, raw, x)
    found = multiply(guest, format, raw, x, threads=threads)
    assert found.packed
    np.testing.assert_array_less(np.abs(found.values - exact), EXACT * size)


@pytest.mark.parametrize("format", FORMATS, ids=str)
@pytest.mark.parametrize("rows", [1, 2, 7])
def test_fewer_than_eight_rows_are_ggmls_own(guest: Guest, format: Format, rows: int) -> None:
    raw, x = random_weights(format, rows, 256), activations(5, 256)
    exact, size = product(format, raw, x, packed=False)
    found = multiply(guest, format, raw, x)
    assert not found.packed
    np.testing.assert_array_less(np.abs(found.values - exact), EXACT * size)


@pytest.mark.parametrize("rows", [9, 14, 23, 257])
@pytest.mark.parametrize("n", [1, 4, 70])
def test_the_last_group_of_eight_may_not_be_full(
    guest: Guest, format: Format, rows: int, n: int
) -> None:
    raw, x = random_weights(format, rows, 512), activations(n, 512)
    hold(guest, format, raw, x)
    whole = random_weights(format, rows + 8 - rows % 8, 512, seed=5)
    whole[:rows] = raw
    expected = multiply(guest, format, whole, x).values[:, :rows]
    for threads in (1, 3):
        found = multiply(guest, format, raw, x, threads=threads).values
        np.testing.assert_array_equal(found, expected)


def patterns(k: int) -> Array:
    """Activations whose codes are all 127 or -127, in the orders that add up most in some lane."""
    at = np.arange(k)
    signs = [np.ones(k), -np.ones(k)]
    signs += [np.where(at // width % 2, -1, 1) for width in (1, 2, 4, 16, 32)]
    signs += [np.where(at % 4 < 2, 1, 0), np.where(at % 4 < 2, 0, -1)]
    return np.array(signs, np.float32)


def extreme_weights(format: Format, k: int) -> Array:
    """Each byte the same: all codes, and all small scales, as large or as small as they can be, or mixed."""
    codes = [0x00, 0xFF, 0x80, 0x7F, 0x08, 0xF0, 0x0F, 0xAA]
    rows = []
    for small_scale in [0x00, 0xFF, 0x80, 0x7F] if format.unit == 256 else [0]:
        for code in codes:
            units = np.full((k // format.unit, format.row_size), code, np.uint8)
            if format.type in (Type.Q4_K, Type.Q5_K):
                units[:, 4:16] = small_scale
            elif format.type == Type.Q6_K:
                units[:, 192:208] = small_scale
            rows.append(units.reshape(-1))
    raw = np.array(rows)
    for place in half_places(format):
        set_halves(format, raw, place, 0.5 if place % 2 == 0 else -0.25)
    return raw


def test_the_largest_sums_fit(guest: Guest, format: Format) -> None:
    hold(guest, format, extreme_weights(format, 512), patterns(512))


def test_the_largest_sums_of_codes_meet_rounded_activations(guest: Guest, format: Format) -> None:
    raw = extreme_weights(format, 512)
    hold(guest, format, raw, patterns(512) * (1 + 0.3 * activations(1, 512).clip(-3, 3)))


def test_the_largest_scales_of_weights_and_the_smallest(guest: Guest, format: Format) -> None:
    values = [65504.0, -65504.0, 2.0**-14, 2.0**-15, 3 * 2.0**-24, 2.0**-24, -(2.0**-24), 0.0, -0.0]
    raw = random_weights(format, 24, 512)
    for place in half_places(format):
        picked = np.resize(np.roll(values, place), (24, len(raw[0]) // format.row_size))
        set_halves(format, raw, place, picked)
    hold(guest, format, raw, activations(5, 512))


def test_no_scale_and_no_activation_give_zero(guest: Guest, format: Format) -> None:
    raw, x = random_weights(format, 16, 256), activations(5, 256)
    assert not multiply(guest, format, raw, np.zeros_like(x)).values.any()
    for place in half_places(format):
        set_halves(format, raw, place, 0)
    assert not multiply(guest, format, raw, x).values.any()


@pytest.mark.parametrize("size", [1e-3, 1e3, 8e6])
def test_activations_of_any_size(guest: Guest, format: Format, size: float) -> None:
    x = activations(9, 512).clip(-1, 1) * np.float32(size)
    x[:, ::7] *= 1e-3
    x[3, :256], x[4, 256:] = 0, 0
    hold(guest, format, random_weights(format, 16, 512), x)


@pytest.mark.parametrize("size", [1e-7, 1e-20, 1e-37, 1e-40, 1e-45])
def test_activations_below_half_precision_give_next_to_nothing(
    guest: Guest, format: Format, size: float
) -> None:
    x = (activations(5, 512) * size).astype(np.float32)
    hold(guest, format, random_weights(format, 16, 512), x, tiny=1e-36)


def test_huge_activations(guest: Guest, format: Format) -> None:
    raw, x = random_weights(format, 16, 512), activations(6, 512)
    x[2] *= 1e30
    exact, size = product(format, raw, x)
    found = multiply(guest, format, raw, x).values
    others = [0, 1, 3, 4, 5]
    np.testing.assert_array_less(np.abs(found - exact)[others], EXACT * size[others])
    if format.activations == 256 or format.wide:
        np.testing.assert_array_less(np.abs(found - exact)[2], EXACT * size[2])
    elif format.activations == 32:  # a scale at half precision ends at 65504
        assert not np.isfinite(found[2]).any()


@pytest.mark.parametrize("n", [1, 2, 6, 8])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_activation_that_is_no_number_spoils_its_token_alone(
    guest: Guest, format: Format, n: int, bad: float
) -> None:
    raw, x = random_weights(format, 16, 768), activations(n, 768)
    for token in {0, n // 2, n - 1}:
        spoilt = x.copy()
        spoilt[token, (37 * token + 300) % 768] = bad
        found = multiply(guest, format, raw, spoilt).values
        assert not np.isfinite(found[token]).any()
        others = [i for i in range(n) if i != token]
        expected = multiply(guest, format, raw, x).values
        np.testing.assert_array_equal(found[others], expected[others])


def every_half(format: Format, raw: Array) -> None:
    """All bit patterns that half precision has, or as many as there is room for."""
    rows, units = halves(format, raw).shape[:2]
    for place in half_places(format):
        step = max(1, 65536 // (rows * units))
        bits = np.resize(np.roll(np.arange(0, 65536, step), 31 * place), (rows, units))
        set_halves(format, raw, place, (bits + place % step).astype(np.uint16).view(np.float16))


@pytest.mark.parametrize("format", FORMATS, ids=str)
@pytest.mark.parametrize("more", [0, 3])
def test_rows_read_are_those_of_the_file_bit_by_bit(
    guest: Guest, format: Format, more: int
) -> None:
    rows = 8192 * 32 // format.unit + more
    raw = random_weights(format, rows, 4 * format.unit)
    every_half(format, raw)
    rng = np.random.default_rng(3)
    ids = np.concatenate([rng.permutation(rows), [rows - 1, 0, 0, 9]]).astype(np.int32)
    k = 4 * format.unit
    expected = dequantized(format, raw)[ids]
    for packed in (False,) if format.wide else (True, False):
        found = check(
            guest,
            CheckOp.ROWS,
            [raw, ids],
            expected.shape,
            sizes=(k, rows, len(ids)),
            type=int(format.type),
            packed=packed,
        )
        assert found.packed == packed
        differ = found.values.view(np.uint32) != expected.view(np.uint32)
        assert not (differ & ~(np.isnan(found.values) & np.isnan(expected))).any()


@pytest.mark.parametrize("used", [1, 3])
@pytest.mark.parametrize("tokens", [1, 4, 7])
def test_each_expert_sees_the_tokens_that_name_it(
    guest: Guest, format: Format, used: int, tokens: int
) -> None:
    k, rows, experts = 512, 16, 5
    raw = random_weights(format, experts * rows, k)
    set_halves(format, raw[rows : 2 * rows], 0, np.nan)  # the second is never asked
    x = activations(tokens * used, k)
    ids = np.random.default_rng(tokens).choice([0, 2, 3, 4], (tokens, used)).astype(np.int32)
    ids[-1] = 4
    for packed in (True, False):
        y = rounded(format, x, packed).reshape(tokens, used, k)
        each = [part.reshape(experts, rows, k) for part in parts(format, raw, packed)]
        exact: Any = sum(np.einsum("tuk,turk->tur", y, part[ids]) for part in each)
        size: Any = sum(np.einsum("tuk,turk->tur", abs(y), abs(part[ids])) for part in each)
        found = check(
            guest,
            CheckOp.EXPERTS,
            [raw, x, ids],
            (tokens, used, rows),
            sizes=(k, rows, experts, used, tokens),
            type=int(format.type),
            packed=packed,
        )
        assert found.packed == packed
        np.testing.assert_array_less(np.abs(found.values - exact), EXACT * size)


HALF = next(format for format in FORMATS if format.wide)


def test_half_precision_weights_are_exact_or_next_to_it() -> None:
    """Their codes: those down to a sixteenth of the largest of a block are the file's, the others within 2^-15 of it."""
    raw = random_weights(HALF, 8192, 4 * HALF.unit)
    every_half(HALF, raw)
    weights = widened(raw.view(np.float16)).reshape(-1, 32)
    finite = np.asarray(np.isfinite(weights).all(-1))
    differ = np.abs(coded(raw).reshape(-1, 32)[finite] - weights[finite])
    largest = np.abs(weights[finite]).max(-1, keepdims=True)
    assert (differ <= 2.0**-15 * largest).all()
    assert not differ[np.abs(weights[finite]) >= largest / 16].any()


@pytest.mark.parametrize("more", [0, 3])
def test_rows_read_of_half_precision_are_what_products_see(guest: Guest, more: int) -> None:
    rows, k = 8192 + more, 4 * HALF.unit
    raw = random_weights(HALF, rows, k)
    every_half(HALF, raw)
    ids = np.random.default_rng(3).permutation(rows).astype(np.int32)
    found = check(
        guest,
        CheckOp.ROWS,
        [raw, ids],
        (rows, k),
        sizes=(k, rows, rows),
        type=int(HALF.type),
    )
    assert found.packed
    expected = coded(raw)[ids].astype(np.float16).astype(np.float32).reshape(-1, 32)
    finite = np.isfinite(expected).all(-1)
    seen = found.values.reshape(-1, 32)
    np.testing.assert_array_equal(seen[finite], expected[finite])
    assert np.isnan(seen[~finite]).all(), "a block with a number that is none"


OUTLIERS = {
    "none": (1.0, 1.0),
    "of activations": (300.0, 1.0),
    "of weights": (1.0, 100.0),
    "that meet little": (300.0, 1 / 300),
}


@pytest.mark.parametrize("case", OUTLIERS)
def test_half_precision_products_are_about_as_near_as_ggmls(guest: Guest, case: str) -> None:
    """ggml rounds activations to half precision, we round to a scale for 32. That of Q8_0 is 50 times as far and more."""
    of_activations, of_weights = OUTLIERS[case]
    x, weights = activations(64, 896), activations(64, 896, 3) * 0.02
    x[:, [5, 300]] *= of_activations
    weights[:, [5, 300]] *= of_weights
    halves = weights.astype(np.float16)
    exact = x.astype(np.float64) @ halves.astype(np.float64).T

    def distance(format: Format, raw: Array, packed: bool) -> float:
        found = multiply(guest, format, raw, x, packed)
        assert found.packed == packed
        return float(np.sqrt(np.mean((found.values - exact) ** 2)))

    ours, ggmls = (distance(HALF, halves.view(np.uint8), packed) for packed in (True, False))
    assert ours < (5 if case == "that meet little" else 1) * ggmls
    q8_0 = next(format for format in FORMATS if format.type == Type.Q8_0)
    assert 50 * ours < distance(q8_0, gguf.quantize(weights, Type.Q8_0), True)


def test_every_half_precision_number_is_what_it_is(guest: Guest) -> None:
    """ggml's product with half-precision weights, whose sums are ours: eight at a time, and the rest one by one."""
    bits = np.arange(65536, dtype=np.uint16).view(np.float16)
    for k in (1, 8, 9, 17):
        for place in {0, 5 % k, k - 1}:
            weights, x = np.zeros((65536, k), np.float16), np.zeros((1, k), np.float32)
            weights[:, place], x[:, place] = bits, 1
            found = check(
                guest,
                CheckOp.PRODUCT,
                [weights, x],
                (65536,),
                sizes=(k, 65536, 1),
                type=int(Type.F16),
                packed=False,
            )
            np.testing.assert_array_equal(found.values, widened(bits))


@pytest.mark.parametrize("k", [*range(1, 18), 100, 1000])
def test_half_precision_products_of_any_length(guest: Guest, k: int) -> None:
    weights = activations(7, k, 5).astype(np.float16)
    x = activations(3, k)
    found = check(
        guest,
        CheckOp.PRODUCT,
        [weights, x],
        (3, 7),
        sizes=(k, 7, 3),
        type=int(Type.F16),
        packed=False,
    )
    y, w = x.astype(np.float16).astype(np.float64), weights.astype(np.float64)
    np.testing.assert_array_less(abs(found.values - y @ w.T), 1e-6 * (abs(y) @ abs(w).T))
