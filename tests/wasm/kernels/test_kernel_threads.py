"""What several threads compute together is what one computes alone, to the last bit, whatever the sizes."""

from __future__ import annotations

import numpy as np
import pytest

from llama_bridge_wasm.abi import CheckOp, Guest

from .kernel_check import FORMATS, Array, Format, check, random_weights
from .test_attention import make
from .test_products import activations

THREADS = (2, 5)


def same(alone: Array, together: Array) -> None:
    np.testing.assert_array_equal(alone.view(np.uint32), together.view(np.uint32))


@pytest.mark.parametrize("n", [1, 4, 70])
@pytest.mark.parametrize("rows", [8, 648])
@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_products(guest: Guest, format: Format, rows: int, n: int) -> None:
    k = 3 * format.unit
    inputs = [random_weights(format, rows, k), activations(n, k)]
    alone, *others = (
        check(
            guest,
            CheckOp.PRODUCT,
            inputs,
            (n, rows),
            sizes=(k, rows, n),
            type=int(format.type),
            threads=threads,
        )
        for threads in (1, *THREADS)
    )
    assert np.isfinite(alone.values).all()
    for found in others:
        assert found.packed
        same(alone.values, found.values)


@pytest.mark.parametrize("tokens", [9])
@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_experts(guest: Guest, format: Format, tokens: int) -> None:
    k, rows, experts, used = 256, 40, 4, 2
    raw, x = random_weights(format, experts * rows, k), activations(tokens * used, k)
    ids = np.random.default_rng(2).integers(0, experts, (tokens, used)).astype(np.int32)
    alone, *others = (
        check(
            guest,
            CheckOp.EXPERTS,
            [raw, x, ids],
            (tokens, used, rows),
            sizes=(k, rows, experts, used, tokens),
            type=int(format.type),
            threads=threads,
        )
        for threads in (1, *THREADS)
    )
    for found in others:
        same(alone.values, found.values)


@pytest.mark.parametrize("keys", [33, 1200])
@pytest.mark.parametrize("tokens", [1, 40])
@pytest.mark.parametrize("heads", [1, 6])
def test_attention(guest: Guest, heads: int, tokens: int, keys: int) -> None:
    case = make(heads=heads, ratio=1 if heads == 1 else 2, tokens=min(tokens, keys), keys=keys)
    alone = case.found(guest)
    for threads in THREADS:
        same(alone, case.found(guest, threads))


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("op", [CheckOp.SILU, CheckOp.SWIGLU, CheckOp.SOFTMAX])
def test_functions(guest: Guest, op: CheckOp, rows: int) -> None:
    inputs = [activations(rows, 37, seed) for seed in range(2 if op == CheckOp.SWIGLU else 1)]
    alone = check(guest, op, inputs, (rows, 37), sizes=(37, rows)).values
    for threads in THREADS:
        found = check(guest, op, inputs, (rows, 37), sizes=(37, rows), threads=threads)
        same(alone, found.values)
