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
    BIAS,
    LOAD_PARAMS,
    LOGPROB,
    MODEL_PATH,
    SAMPLER_PARAMS,
    Guest,
    Info,
    Status,
)

from .conftest import MakeGuest, last_error, load, new_guest, put

GREEDY = (1, 0.0, 40, 1.0, 0.0, 0, 1.0, 0.0, 0.0)
REST = (1.0, 0.0, 0.0, 0.1, 0, 5.0, 0.1, 0.0, 1.0, 0.0, 1.75, 2, 0)
NONE = (0, 0, 0, 0, 0, 0)
"""No recent tokens, biases and sequence breakers."""


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
        "lb_length": [(0,)],
        "lb_clear": [(0,)],
        "lb_truncate": [(0, 0)],
        "lb_decode": [(0, somewhere, 1)],
        "lb_decode_together": [(somewhere, somewhere, somewhere, 1)],
        "lb_share": [(0, 1, 0)],
        "lb_decode_ahead": [(0, somewhere, 2, 1)],
        "lb_look": [(0, 0)],
        "lb_sampler": [(0, somewhere, *NONE)],
        "lb_grammar": [(0, somewhere, somewhere, 0, 0, 0), (0, 0, 0, 0, 0, 0)],
        "lb_step": [(0, -1), (0, 1)],
        "lb_draw": [(0, 0, 0)],
        "lb_accept": [(0, 0, 0, 0)],
        "lb_logprobs": [(0, 1, 0, somewhere)],
    }
    for name, each in calls.items():
        for args in each:
            assert guest.call(name, *args) == Status.NO_MODEL, name
    assert guest.call("lb_logits", 0) == 0
    guest.call("lb_unload")


@pytest.mark.parametrize(
    "params",
    [
        (-1, 64, 64, 1, 1, 1, 1, 1),
        (256, 0, 64, 1, 1, 1, 1, 1),
        (256, 64, 65, 1, 1, 1, 1, 1),
        (256, 64, 0, 1, 1, 1, 1, 1),
        (256, 64, 64, 0, 1, 1, 1, 1),
        (256, 64, 64, 100_000, 1, 1, 1, 1),
        (256, 64, 64, 1, 99, 1, 1, 1),
        (256, 64, 64, 1, 1, -5, 1, 1),
        (256, 64, 64, 1, 1, 1, 2, 1),
        (256, 64, 64, 1, 1, 8, 0, 1),
        (256, 64, 64, 1, 1, 1, 1, 0),
        (256, 64, 64, 1, 1, 1, 1, 65),
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
    assert guest.call("lb_sampler", 0, put(guest, SAMPLER_PARAMS.pack(*GREEDY, *REST)), *NONE) == 0
    before = guest.call("lb_length", 0)
    assert guest.call("lb_decode", 0, tokens(guest, 1, token), 2) == Status.BAD_ARGUMENT
    assert guest.call("lb_step", 0, token) == Status.BAD_ARGUMENT
    assert guest.call("lb_token_bytes", token, 0, 0, 0) == Status.BAD_ARGUMENT
    assert "no such token" in last_error(guest)
    assert guest.call("lb_length", 0) == before


def test_batches_must_have_from_one_token_to_n_batch(guest: Guest) -> None:
    ids = tokens(guest, *[1] * 65)
    for n in (0, -1, 65, 2**31 - 1):
        assert guest.call("lb_decode", 0, ids, n) == Status.BAD_ARGUMENT
    assert guest.call("lb_decode", 0, 0, 1) == Status.BAD_ARGUMENT


def test_a_full_context_says_so_and_keeps_what_it_has(guest: Guest) -> None:
    assert guest.call("lb_clear", 0) == 0
    assert guest.call("lb_sampler", 0, put(guest, SAMPLER_PARAMS.pack(*GREEDY, *REST)), *NONE) == 0
    ids = tokens(guest, *[7] * 64)
    for _ in range(4):
        assert guest.call("lb_decode", 0, ids, 64) == 0
    assert guest.call("lb_length", 0) == 256
    assert guest.call("lb_decode", 0, ids, 1) == Status.CONTEXT_FULL
    assert guest.call("lb_step", 0, 7) == Status.CONTEXT_FULL
    assert guest.call("lb_length", 0) == 256
    assert guest.call("lb_clear", 0) == 0
    assert guest.call("lb_length", 0) == 0


def test_truncate_knows_its_bounds(guest: Guest) -> None:
    guest.call("lb_clear", 0)
    assert guest.call("lb_decode", 0, tokens(guest, 1, 2, 3), 3) == 0
    assert guest.call("lb_truncate", 0, 4) == Status.BAD_ARGUMENT
    assert guest.call("lb_truncate", 0, -1) == Status.BAD_ARGUMENT
    assert guest.call("lb_truncate", 0, 3) == 1
    assert guest.call("lb_truncate", 0, 1) == 1
    assert guest.call("lb_length", 0) == 1
    assert guest.call("lb_truncate", 0, 0) == 1
    assert guest.call("lb_length", 0) == 0


def test_sampling_needs_a_sampler_and_logits(make_guest: MakeGuest) -> None:
    guest = make_guest()
    assert load(guest) == 0
    assert guest.call("lb_step", 0, -1) == Status.ENGINE_ERROR
    assert "no sampler" in last_error(guest)
    assert guest.call("lb_sampler", 0, put(guest, SAMPLER_PARAMS.pack(*GREEDY, *REST)), *NONE) == 0
    assert guest.call("lb_step", 0, -1) == Status.ENGINE_ERROR
    assert "no logits" in last_error(guest)
    assert guest.call("lb_decode", 0, tokens(guest, 1, 2), 2) == 0
    assert guest.call("lb_step", 0, -1) >= 0
    assert guest.call("lb_truncate", 0, 1) == 1
    assert guest.call("lb_step", 0, -1) == Status.ENGINE_ERROR, (
        "those logits were of a removed token"
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_sampler_parameters_must_be_finite(guest: Guest, value: float) -> None:
    right = [*GREEDY, *REST]
    for place in (i for i, field in enumerate(right) if isinstance(field, float)):
        params = [*right[:place], value, *right[place + 1 :]]
        packed = put(guest, SAMPLER_PARAMS.pack(*params))
        assert guest.call("lb_sampler", 0, packed, *NONE) == Status.BAD_ARGUMENT


def test_what_a_sampler_counts_and_biases_are_tokens(guest: Guest) -> None:
    assert guest.call("lb_sampler", 0, 0, *NONE) == Status.BAD_ARGUMENT
    good = put(guest, SAMPLER_PARAMS.pack(*GREEDY, *REST))
    wrong_tokens = tokens(guest, 1, 99_999_999)
    for rest in ((0, 5, *NONE[2:]), (wrong_tokens, 2, *NONE[2:]), (0, -1, *NONE[2:])):
        assert guest.call("lb_sampler", 0, good, *rest) == Status.BAD_ARGUMENT
    for token, bias in ((99_999_999, 1.0), (-1, 1.0), (1, math.nan), (1, math.inf)):
        biases = put(guest, BIAS.pack(token, bias))
        assert guest.call("lb_sampler", 0, good, 0, 0, biases, 1, 0, 0) == Status.BAD_ARGUMENT
    for rest in ((0, 0, 0, 1, 0, 0), (0, 0, 0, 0, 0, 1), (0, 0, 0, -1, 0, 0), (0, 0, 0, 0, 0, -1)):
        assert guest.call("lb_sampler", 0, good, *rest) == Status.BAD_ARGUMENT


def test_a_grammar_is_in_force_refused_or_does_not_fit(guest: Guest) -> None:
    assert guest.call("lb_clear", 0) == 0
    assert guest.call("lb_decode", 0, tokens(guest, 1, 2), 2) == 0
    assert guest.call("lb_sampler", 0, put(guest, SAMPLER_PARAMS.pack(*GREEDY, *REST)), *NONE) == 0
    root = put(guest, b"root\0")
    good, said = put(guest, b'root ::= "77" [0-9]\0'), put(guest, b"7x")
    assert guest.call("lb_grammar", 0, good, root, 0, said, 1) == 1
    for wrong in (b"root ::= nothing\0", b'other ::= "7"\0', b"\0", b'root ::= root "7"\0'):
        assert guest.call("lb_grammar", 0, put(guest, wrong), root, 0, 0, 0) == Status.BAD_ARGUMENT
        assert "refuses the grammar" in last_error(guest)
    for rest in ((0, 0, 0, 0), (root, 0, 0, 1), (root, 0, said, -1)):
        assert guest.call("lb_grammar", 0, good, *rest) == Status.BAD_ARGUMENT
    piece = put(guest, bytes(64))
    token = guest.call("lb_step", 0, -1)
    assert guest.call("lb_token_bytes", token, 0, piece, 64) >= 1
    assert guest.read(piece, 1) == b"7", "a refused grammar changes nothing"
    assert guest.call("lb_grammar", 0, good, root, 0, said, 2) == 0
    assert guest.call("lb_accept", 0, tokens(guest, 1, 2, 3), 3, 0) == 3, "there is no grammar"


def test_tokens_are_drawn_and_accepted_only_if_they_are_some(guest: Guest) -> None:
    assert guest.call("lb_clear", 0) == 0
    assert guest.call("lb_sampler", 0, put(guest, SAMPLER_PARAMS.pack(*GREEDY, *REST)), *NONE) == 0
    out = put(guest, bytes(64))
    assert guest.call("lb_draw", 0, 0, 0) == Status.ENGINE_ERROR
    assert guest.call("lb_logprobs", 0, 1, 0, out) == Status.ENGINE_ERROR
    assert guest.call("lb_decode", 0, tokens(guest, 1, 2), 2) == 0
    best = guest.call("lb_draw", 0, 0, 0)
    assert 0 <= guest.call("lb_draw", 0, tokens(guest, best), 1) != best
    wrong = tokens(guest, 1, 99_999_999)
    for rest in ((0, 1), (0, -1), (wrong, 2)):
        assert guest.call("lb_draw", 0, *rest) == Status.BAD_ARGUMENT
        assert guest.call("lb_accept", 0, *rest, 0) == Status.BAD_ARGUMENT
    for args in ((-1, 0, out), (99_999_999, 0, out), (1, -1, out), (1, 1 << 30, out), (1, 0, 0)):
        assert guest.call("lb_logprobs", 0, *args) == Status.BAD_ARGUMENT
    assert guest.call("lb_logprobs", 0, best, 2, out) == 3
    chosen, first, second = (LOGPROB.unpack(guest.read(out + 8 * i, 8)) for i in range(3))
    assert chosen == first
    assert 0 >= first[1] >= second[1]


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
    guest.call("lb_clear", 0)
    set_flag = guest.flag(guest.call("lb_cancel_flag"))
    set_flag(1)
    assert guest.call("lb_decode", 0, tokens(guest, 1, 2), 2) == Status.CANCELLED
    assert guest.call("lb_length", 0) == 0
    set_flag(0)
    assert guest.call("lb_decode", 0, tokens(guest, 1, 2), 2) == 0


def test_a_number_that_is_no_sequence_is_refused(guest: Guest) -> None:
    somewhere = put(guest, bytes(64))
    for number in (-1, 1, 64, 2**31 - 1, -(2**31)):
        for name, rest in {
            "lb_length": (),
            "lb_clear": (),
            "lb_truncate": (0,),
            "lb_decode": (somewhere, 1),
            "lb_share": (0, 0),
            "lb_step": (1,),
            "lb_draw": (0, 0),
            "lb_accept": (0, 0, 0),
            "lb_logprobs": (1, 0, somewhere),
            "lb_grammar": (0, 0, 0, 0, 0),
            "lb_sampler": (put(guest, SAMPLER_PARAMS.pack(*GREEDY, *REST)), *NONE),
        }.items():
            assert guest.call(name, number, *rest) == Status.BAD_ARGUMENT, name
        assert guest.call("lb_logits", number) == 0
        assert guest.call("lb_share", 0, number, 0) == Status.BAD_ARGUMENT


def test_what_cannot_be_decoded_together_is_refused(make_guest: MakeGuest) -> None:
    guest = make_guest()
    path = put(guest, MODEL_PATH.encode() + b"\0")
    params = put(guest, LOAD_PARAMS.pack(256, 64, 64, 1, 1, 1, 1, 3))
    assert guest.call("lb_load", path, params) == 0
    ones = tokens(guest, *[1] * 80)

    def decode(numbers: list[int], lengths: list[int]) -> int:
        given = tokens(guest, *numbers), tokens(guest, *lengths)
        return guest.call("lb_decode_together", *given, ones, len(numbers))

    for numbers, lengths in (
        ([0, 0], [1, 1]),
        ([0, 3], [1, 1]),
        ([-1], [1]),
        ([0], [0]),
        ([0, 1], [1, -1]),
        ([0], [65]),
        ([0, 1], [32, 33]),
        ([0, 1], [2**31 - 1, 2**31 - 1]),
        ([0, 1, 2, 0], [1, 1, 1, 1]),
    ):
        assert decode(numbers, lengths) == Status.BAD_ARGUMENT, (numbers, lengths)
    for arguments in ((0, ones, ones, 1), (ones, 0, ones, 1), (ones, ones, 0, 1)):
        assert guest.call("lb_decode_together", *arguments) == Status.BAD_ARGUMENT
    for n in (0, -1):
        assert guest.call("lb_decode_together", ones, ones, ones, n) == Status.BAD_ARGUMENT
    wrong = tokens(guest, 1, 1, -5)
    given = tokens(guest, 0, 1), tokens(guest, 1, 2)
    assert guest.call("lb_decode_together", *given, wrong, 2) == Status.BAD_ARGUMENT
    assert [guest.call("lb_length", number) for number in range(3)] == [0, 0, 0]
    assert decode([2, 0, 1], [3, 1, 60]) == 0
    assert [guest.call("lb_length", number) for number in range(3)] == [1, 60, 3]
    for _ in range(3):
        assert decode([1], [64]) == 0
    assert decode([1, 2], [5, 1]) == Status.CONTEXT_FULL
    assert decode([0], [1]) == Status.CACHE_FULL
    assert guest.call("lb_share", 2, 0, 2) == 1
    assert guest.call("lb_share", 2, 0, 4) == 0
    assert guest.call("lb_share", 2, 2, 1) == 0
    assert guest.call("lb_share", 2, 0, -1) == Status.BAD_ARGUMENT
    assert [guest.call("lb_length", number) for number in range(3)] == [2, 252, 3]
    guest.call("lb_unload")
