"""The shim's C ABI: whatever it is called with, it answers with a status and words, never with a trap."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_bridge.models.source import ModelFile
from llama_bridge_wasm.abi import (
    ABI_VERSION,
    LOAD_PARAMS,
    MODEL_PATH,
    SAMPLER_PARAMS,
    Guest,
    Info,
    Status,
)

from .conftest import MakeGuest, last_error, load, new_guest, put

GREEDY = (1, 0.0, 40, 1.0, 0.0, 0, 1.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def guest(wasm: Path, demo: ModelFile) -> Iterator[Guest]:
    guest = new_guest(wasm, demo.path)
    assert load(guest) == 0
    yield guest
    guest.close()


def tokens(guest: Guest, *ids: int) -> int:
    return put(guest, struct.pack(f"<{len(ids)}i", *ids))


def test_versions_agree(guest: Guest) -> None:
    assert guest.call("lb_abi_version") == ABI_VERSION


def test_everything_says_that_no_model_is_loaded(make_guest: MakeGuest) -> None:
    guest = make_guest()
    somewhere = put(guest, bytes(64))
    calls: dict[str, list[tuple[int, ...]]] = {
        "lb_info": [(Info.N_CTX,)],
        "lb_eog_tokens": [(0, 0)],
        "lb_tokenize": [(somewhere, 1, 0, 0, somewhere, 4)],
        "lb_token_bytes": [(1, 0, somewhere, 4)],
        "lb_length": [()],
        "lb_clear": [()],
        "lb_truncate": [(0,)],
        "lb_decode": [(somewhere, 1)],
        "lb_sampler": [(somewhere, 0, 0)],
        "lb_step": [(-1,), (1,)],
    }
    for name, each in calls.items():
        for args in each:
            assert guest.call(name, *args) == Status.NO_MODEL, name
    assert guest.call("lb_logits") == 0
    guest.call("lb_unload")


@pytest.mark.parametrize(
    "params",
    [
        (-1, 64, 64, 1, 1, 1, 1),
        (256, 0, 64, 1, 1, 1, 1),
        (256, 64, 65, 1, 1, 1, 1),
        (256, 64, 0, 1, 1, 1, 1),
        (256, 64, 64, 0, 1, 1, 1),
        (256, 64, 64, 100_000, 1, 1, 1),
        (256, 64, 64, 1, 99, 1, 1),
        (256, 64, 64, 1, 1, -5, 1),
        (256, 64, 64, 1, 1, 1, 2),
        (256, 64, 64, 1, 1, 8, 0),
    ],
)
def test_bad_load_parameters_are_refused_and_the_loaded_model_stays(
    guest: Guest, params: tuple[int, ...]
) -> None:
    path = put(guest, MODEL_PATH.encode() + b"\0")
    assert guest.call("lb_load", path, put(guest, LOAD_PARAMS.pack(*params))) == Status.BAD_ARGUMENT
    assert last_error(guest)
    assert guest.call("lb_load", 0, 0) == Status.BAD_ARGUMENT
    assert guest.call("lb_info", Info.N_CTX) == 256


@pytest.mark.parametrize("token", [-2, -(2**31), 1_000_000, 2**31 - 1])
def test_ids_that_are_no_tokens_are_refused(guest: Guest, token: int) -> None:
    assert guest.call("lb_sampler", put(guest, SAMPLER_PARAMS.pack(*GREEDY)), 0, 0) == 0
    before = guest.call("lb_length")
    assert guest.call("lb_decode", tokens(guest, 1, token), 2) == Status.BAD_ARGUMENT
    assert guest.call("lb_step", token) == Status.BAD_ARGUMENT
    assert guest.call("lb_token_bytes", token, 0, 0, 0) == Status.BAD_ARGUMENT
    assert "no such token" in last_error(guest)
    assert guest.call("lb_length") == before


def test_batches_must_have_from_one_token_to_n_batch(guest: Guest) -> None:
    ids = tokens(guest, *[1] * 65)
    for n in (0, -1, 65, 2**31 - 1):
        assert guest.call("lb_decode", ids, n) == Status.BAD_ARGUMENT
    assert guest.call("lb_decode", 0, 1) == Status.BAD_ARGUMENT


def test_a_full_context_says_so_and_keeps_what_it_has(guest: Guest) -> None:
    assert guest.call("lb_clear") == 0
    assert guest.call("lb_sampler", put(guest, SAMPLER_PARAMS.pack(*GREEDY)), 0, 0) == 0
    ids = tokens(guest, *[7] * 64)
    for _ in range(4):
        assert guest.call("lb_decode", ids, 64) == 0
    assert guest.call("lb_length") == 256
    assert guest.call("lb_decode", ids, 1) == Status.CONTEXT_FULL
    assert guest.call("lb_step", 7) == Status.CONTEXT_FULL
    assert guest.call("lb_length") == 256
    assert guest.call("lb_clear") == 0
    assert guest.call("lb_length") == 0


def test_truncate_knows_its_bounds(guest: Guest) -> None:
    guest.call("lb_clear")
    assert guest.call("lb_decode", tokens(guest, 1, 2, 3), 3) == 0
    assert guest.call("lb_truncate", 4) == Status.BAD_ARGUMENT
    assert guest.call("lb_truncate", -1) == Status.BAD_ARGUMENT
    assert guest.call("lb_truncate", 3) == 1
    assert guest.call("lb_truncate", 1) == 1
    assert guest.call("lb_length") == 1
    assert guest.call("lb_truncate", 0) == 1
    assert guest.call("lb_length") == 0


def test_sampling_needs_a_sampler_and_logits(make_guest: MakeGuest) -> None:
    guest = make_guest()
    assert load(guest) == 0
    assert guest.call("lb_step", -1) == Status.ENGINE_ERROR
    assert "no sampler" in last_error(guest)
    assert guest.call("lb_sampler", put(guest, SAMPLER_PARAMS.pack(*GREEDY)), 0, 0) == 0
    assert guest.call("lb_step", -1) == Status.ENGINE_ERROR
    assert "no logits" in last_error(guest)
    assert guest.call("lb_decode", tokens(guest, 1, 2), 2) == 0
    assert guest.call("lb_step", -1) >= 0
    assert guest.call("lb_truncate", 1) == 1
    assert guest.call("lb_step", -1) == Status.ENGINE_ERROR, "those logits were of a removed token"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_sampler_parameters_must_be_finite(guest: Guest, value: float) -> None:
    for place in (1, 3, 4, 6, 7, 8):
        params = [*GREEDY[:place], value, *GREEDY[place + 1 :]]
        packed = put(guest, SAMPLER_PARAMS.pack(*params))
        assert guest.call("lb_sampler", packed, 0, 0) == Status.BAD_ARGUMENT
    assert guest.call("lb_sampler", 0, 0, 0) == Status.BAD_ARGUMENT
    good = put(guest, SAMPLER_PARAMS.pack(*GREEDY))
    assert guest.call("lb_sampler", good, 0, 5) == Status.BAD_ARGUMENT
    assert guest.call("lb_sampler", good, tokens(guest, 1, 99_999_999), 2) == Status.BAD_ARGUMENT


def test_results_that_do_not_fit_are_counted_but_not_written(guest: Guest) -> None:
    text = put(guest, b"Hello, my name is Ana.")
    out = put(guest, b"\xaa" * 400)
    needed = guest.call("lb_tokenize", text, 22, 1, 1, out, 0)
    assert needed > 2
    assert guest.call("lb_tokenize", text, 22, 1, 1, out, needed) == needed
    piece = put(guest, b"\xaa" * 64)
    last = struct.unpack("<i", guest.read(out + 4 * (needed - 2), 4))[0]
    n = guest.call("lb_token_bytes", last, 0, piece, 0)
    assert n >= 1
    assert guest.read(piece, 1) == b"\xaa"
    assert guest.call("lb_token_bytes", last, 0, piece, n) == n
    assert guest.read(piece, 1) != b"\xaa"
    assert guest.call("lb_eog_tokens", 0, 0) > 0
    assert guest.call("lb_tokenize", 0, 5, 1, 1, out, 10) == Status.BAD_ARGUMENT
    assert guest.call("lb_tokenize", text, -1, 1, 1, out, 10) == Status.BAD_ARGUMENT
    assert guest.call("lb_tokenize", text, 5, 1, 1, 0, 10) == Status.BAD_ARGUMENT


def test_a_raised_flag_stops_work_before_it_begins(guest: Guest) -> None:
    guest.call("lb_clear")
    set_flag = guest.flag(guest.call("lb_cancel_flag"))
    set_flag(1)
    assert guest.call("lb_decode", tokens(guest, 1, 2), 2) == Status.CANCELLED
    assert guest.call("lb_length") == 0
    set_flag(0)
    assert guest.call("lb_decode", tokens(guest, 1, 2), 2) == 0
