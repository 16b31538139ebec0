"""Verification: what is compared, and which KV caches that load are found to be wrong."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from llama_bridge import (
    ContextOverflow,
    LlamaBridge,
    ModelParams,
    SamplingParams,
    SessionCorrupt,
    UnsupportedCapability,
)
from llama_bridge.models.source import open_model
from tests.forging import forge, layers
from tests.ledger import GREEDY, assert_ledger_rule, engine_of
from tests.making import MakeModel

N_CTX = 512
SHORT = SamplingParams(temperature=0, max_tokens=8)
F16 = ModelParams(n_ctx=N_CTX)
PROMPTS = ("Once upon a time there was a small house", " by the lake. " * 20, " and then")


def talk(llama: LlamaBridge, path: Path) -> None:
    for prompt in PROMPTS:
        llama.generate_continue(prompt, sampling=SHORT)
    llama.regenerate(sampling=SamplingParams(temperature=1, seed=1, max_tokens=8))
    llama.session_save(path)


@pytest.mark.parametrize(
    ("quantization", "params"),
    [
        ("f16", F16),
        ("q4_0", F16),
        ("q4_0", ModelParams(n_ctx=N_CTX, type_k="q8_0", type_v="q8_0")),
        ("f16", ModelParams(n_ctx=N_CTX, flash_attn=False)),
        ("q4_0", ModelParams(n_ctx=N_CTX, n_batch=24)),
    ],
    ids=["f16", "q4_0", "q4_0 over q8_0 cache", "no flash attention", "small batches"],
)
@pytest.mark.parametrize("architecture", ["llama", "gemma3", "mamba", "lfm2"])
def test_a_right_file_passes_on_every_kind_of_memory(
    make_model: MakeModel,
    tmp_path: Path,
    architecture: str,
    quantization: str,
    params: ModelParams,
) -> None:
    model = make_model(architecture=architecture, quantization=quantization, n_embd=128)
    path = tmp_path / "s"
    with LlamaBridge(model, backend="native", params=params) as llama:
        talk(llama, path)
    params = ModelParams(
        n_ctx=N_CTX,
        type_k=params.type_k,
        type_v=params.type_v,
        flash_attn=params.flash_attn,
    )
    with LlamaBridge(model, backend="native", params=params) as llama:
        llama.generate("Something else", sampling=SHORT)
        before = llama.session().tokens
        found = llama.session_verify(path, deep=True)
        assert found.ok
        assert found.refusal is None
        assert all(check.same for check in found.fields)
        assert found.logits is not None
        assert found.logits.positions == 8
        # Well inside the limit, so that a noisier day does not cross it.
        assert found.logits.difference <= found.logits.limit / 2
        assert llama.session().tokens == before
        assert llama.generate_continue(" more", sampling=SHORT).usage.cached_tokens == len(before)
        assert_ledger_rule(llama, n=3)


def swap_keys(sequence: bytearray) -> None:
    one, two = layers(sequence)[0][:2]
    sequence[one], sequence[two] = sequence[two], sequence[one]


def swap_values(sequence: bytearray) -> None:
    one, two = layers(sequence)[1][:2]
    sequence[one], sequence[two] = sequence[two], sequence[one]


def scale_values(sequence: bytearray) -> None:
    for where in layers(sequence)[1]:
        values = np.frombuffer(bytes(sequence[where]), np.float16)
        sequence[where] = (values.astype(np.float32) * 1.25).astype(np.float16).tobytes()


def spoil(sequence: bytearray) -> None:
    where = layers(sequence)[1][0]
    sequence[where] = struct.pack("<e", float("nan")) * ((where.stop - where.start) // 2)


def other_tokens(sequence: bytearray) -> None:
    (n,) = struct.unpack_from("<I", sequence, 8)
    tokens = struct.unpack_from(f"<{n}i", sequence, 12)
    struct.pack_into(f"<{n}i", sequence, 12, tokens[0], *reversed(tokens[1:]))


@pytest.mark.parametrize(
    "change", [swap_keys, swap_values, scale_values, spoil, other_tokens], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("model", ["demo", "random"])
def test_a_cache_that_loads_and_is_wrong_is_found(
    make_model: MakeModel, tmp_path: Path, model: str, change: Callable[[bytearray], None]
) -> None:
    path = tmp_path / "s"
    with LlamaBridge(
        make_model(n_embd=128) if model == "random" else model, backend="native", params=F16
    ) as llama:
        talk(llama, path)
        assert llama.session_verify(path, deep=True).ok
        forge(path, state=change)
        shallow = llama.session_verify(path)
        assert shallow.ok  # nothing else tells
        found = llama.session_verify(path, deep=True)
        assert not found.ok
        assert found.refusal is None
        assert found.logits is not None
        assert not found.logits.difference <= 1.3 * found.logits.limit
        assert_ledger_rule(llama, n=3)


def test_a_finetune_that_passes_for_the_model_is_found(
    make_model: MakeModel, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    with LlamaBridge(make_model(), backend="native", params=F16) as llama:
        talk(llama, path)
    other = make_model(seed=4)
    forge(path, manifest={"model": open_model(other).fingerprint})
    with LlamaBridge(other, backend="native", params=F16) as llama:
        assert llama.session_verify(path).ok
        found = llama.session_verify(path, deep=True)
        assert not found.ok
        assert found.logits is not None
        assert found.logits.difference > 0.5


def test_a_cache_of_another_rotation_is_found(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # llama.cpp rotates quantised K and V of such heads, and its file does not say whether it did.
    model, path = make_model(n_embd=128, n_head=2, n_head_kv=2), tmp_path / "s"
    params = ModelParams(n_ctx=N_CTX, type_k="q8_0", type_v="q8_0")
    with monkeypatch.context() as patch:
        patch.setenv("LLAMA_ATTN_ROT_DISABLE", "1")
        with LlamaBridge(model, backend="native", params=params) as llama:
            talk(llama, path)
            assert llama.session_verify(path, deep=True).ok
    with LlamaBridge(model, backend="native", params=params) as llama:
        assert llama.session_verify(path).ok
        assert not llama.session_verify(path, deep=True).ok


def test_a_file_that_fills_the_context_needs_room_to_be_looked_at(
    make_model: MakeModel, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    with LlamaBridge(make_model(), backend="native", params=ModelParams(n_ctx=256)) as llama:
        llama.generate("words", sampling=SamplingParams(temperature=0, max_tokens=None))
        assert len(llama.session().tokens) == llama.info.n_ctx
        llama.session_save(path)
        assert llama.session_verify(path).ok
        with pytest.raises(ContextOverflow) as caught:
            llama.session_verify(path, deep=True)
        assert caught.value.needed == 257
        assert engine_of(llama).length == len(llama.session().tokens) == 256
    with LlamaBridge(make_model(), backend="native", params=F16) as llama:
        assert llama.session_verify(path, deep=True).ok


def test_a_state_that_llama_cpp_refuses_is_told(make_model: MakeModel, tmp_path: Path) -> None:
    path = tmp_path / "s"

    def shorten(sequence: bytearray) -> None:
        del sequence[-100:]

    with LlamaBridge(make_model(), backend="native", params=F16) as llama:
        talk(llama, path)
        forge(path, state=shorten)
        found = llama.session_verify(path, deep=True)
        assert (found.ok, found.refusal) == (False, "llama.cpp refused its KV state")
        assert all(check.same for check in found.fields)
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(SessionCorrupt):
            llama.session_verify(path)
        assert_ledger_rule(llama, n=3)


@pytest.mark.lacks_capability("session_persistence")
def test_without_persistence_it_is_refused(llama: LlamaBridge, tmp_path: Path) -> None:
    llama.generate("Hello!", sampling=GREEDY)
    with pytest.raises(UnsupportedCapability, match="session_persistence"):
        llama.session_verify(tmp_path / "s")
