"""The table of memory, for headers that nobody should write: no exception, no endless work."""

from __future__ import annotations

import random
import time
from typing import Any

from llama_bridge.models.fitting import NATIVE, WASM, Gpu, settled
from llama_bridge.models.gguf import ArrayRef, GgufHeader, TensorInfo, Value
from llama_bridge.models.what_fits import memory_facts
from llama_bridge.params import ModelParams

VALUES: list[Any] = [0, 1, -1, -(2**31), 2**32 - 1, 2**63, 2**64 - 1, 4096, 32, 7, True, 1.5]
VALUES += [float("inf"), "x", [1, 2], [-3] * 4, [], ArrayRef(4, 9, 0, 9)]
KEYS = (
    "block_count",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "shortconv.l_cache",
    "ssm.inner_size",
    "ssm.conv_kernel",
    "ssm.state_size",
    "context_length",
)
NAMES = ("blk.0.x", "blk.99999999999.y", "blk.\xb2", "output.weight", "token_embd.weight", "blk..")


def header(chance: random.Random) -> GgufHeader:
    arch = chance.choice(["llama", "gemma3", "mamba", "lfm2", "bert", "", "x.y"])
    known: dict[str, Value] = {"general.architecture": arch}
    for key in KEYS:
        usual = chance.random() < 0.5
        known[f"{arch}.{key}"] = chance.choice([4, 8, 32, 4096] if usual else VALUES)
    tensors = tuple(
        TensorInfo(
            chance.choice(NAMES),
            tuple(chance.choice([0, 1, 8, 2**40]) for _ in range(chance.randint(1, 4))),
            chance.choice(["Q4_0", "F32", "type 9"]),
            0,
            chance.choice([None, 0, 100, 2**70]),
        )
        for _ in range(3)
    )
    return GgufHeader(3, known, tensors, 0, 0, (0, 0), (), (0, 0))


def test_odd_numbers_are_counted_or_left_out() -> None:
    chance = random.Random(5)
    wish = ModelParams(n_ctx="auto", n_gpu_layers="auto")
    begun = time.process_time()
    for _ in range(300):
        made = header(chance)
        trained = made.number(f"{made.architecture}.context_length")
        for line in memory_facts(made, trained)["memory"]:
            assert min(line["weights"], line["kv_cache"], line["work_native"]) >= 0
        for gpus in ([], [Gpu("GPU", 1 << 33, 1 << 34)]):
            room = chance.choice([None, 0, 1 << 34])
            place = chance.choice([NATIVE, WASM])
            chosen = settled(made, wish, trained, place, room, gpus)
            assert isinstance(chosen.n_ctx, int)
            assert isinstance(chosen.n_gpu_layers, int)
    assert time.process_time() - begun < 30
