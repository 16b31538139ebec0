"""Models with one or two things changed, loaded and asked one after the other in this process.

``python -m tests.models.mutants BACKEND FROM TO``: says each seed before it is tried, so that the last one said is the one
that ended the process.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from llama_bridge import BridgeError, LlamaBridge, SamplingParams
from llama_bridge.models.source import open_model
from tests.gguf_editing import SIZES, Array, Gguf

__all__ = ["main", "mutated"]

_NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    31,
    63,
    65,
    127,
    255,
    256,
    1000,
    4096,
    65_535,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
_KINDS = ("none", "llama", "bert", "t5", "rwkv", "plamo2", "gpt2", "gemma4", "nonsense")
_ARCHITECTURES = (
    "llama",
    "qwen2",
    "gemma3",
    "mamba",
    "lfm2",
    "bert",
    "llada",
    "phi3",
    "t5",
    "rwkv7",
    "deepseek2",
)
_PRES = ("tekken", "default", "gpt-4o", "deepseek-llm", "falcon", "viking", "superbpe", "nonsense")


def _number(model: Gguf, draw: random.Random) -> None:
    keys = [key for key, (kind, _) in model.metadata.items() if kind in (4, 5, 10, 11)]
    model.set(draw.choice(keys), draw.choice(_NUMBERS) & 0x7FFFFFFF)


def _new_number(model: Gguf, draw: random.Random) -> None:
    arch = model.metadata["general.architecture"][1].decode()
    names = (
        "expert_count", "expert_used_count", "expert_group_count", "expert_shared_count", "leading_dense_block_count",
        "nextn_predict_layers", "rope.dimension_count", "attention.key_length", "attention.value_length",
        "attention.sliding_window", "attention.head_count_kv", "attention.kv_lora_rank", "attention.q_lora_rank",
        "ssm.conv_kernel", "ssm.state_size", "ssm.inner_size", "pooling_type", "vocab_size", "attention.causal",
        "rope.scaling.factor", "rope.freq_base", "logit_scale", "attention.clamp_kqv", "token_shift_count",
    )  # fmt: skip
    model.set(f"{arch}.{draw.choice(names)}", draw.choice(_NUMBERS), 4)


def _float(model: Gguf, draw: random.Random) -> None:
    keys = [key for key, (kind, _) in model.metadata.items() if kind == 6]
    if keys:
        model.set(
            draw.choice(keys), draw.choice((0.0, -1.0, float("nan"), float("inf"), 1e-30, 1e30))
        )


def _type(model: Gguf, draw: random.Random) -> None:
    tensor = draw.choice(list(model.tensors.values()))
    fitting = [type_ for type_, (block, _) in SIZES.items() if tensor.shape[0] % block == 0]
    tensor.retype(draw.choice(fitting))


def _shape(model: Gguf, draw: random.Random) -> None:
    tensor = draw.choice(list(model.tensors.values()))
    if draw.random() < 0.5:
        tensor.shape.reverse()
    else:
        at = draw.randrange(len(tensor.shape))
        tensor.shape[at] = max(1, tensor.shape[at] // 2)
    if tensor.shape[0] % SIZES[tensor.type][0]:
        tensor.shape.reverse()
    tensor.retype(tensor.type if tensor.shape[0] % SIZES[tensor.type][0] == 0 else 0)


def _drop(model: Gguf, draw: random.Random) -> None:
    if draw.random() < 0.5:
        del model.tensors[draw.choice(list(model.tensors))]
    else:
        keys = [key for key in model.metadata if key != "general.architecture"]
        del model.metadata[draw.choice(keys)]


def _weights(model: Gguf, draw: random.Random) -> None:
    tensor = draw.choice(list(model.tensors.values()))
    tensor.data = draw.randbytes(len(tensor.data))


def _words(model: Gguf, draw: random.Random) -> None:
    words = model.words()
    for _ in range(draw.choice((1, 20))):
        words[draw.randrange(len(words))] = draw.choice(
            (b"", b"a", b"\xff", b"\0", b"<s>", b"x" * 5000, draw.choice(words))
        )


def _fewer_words(model: Gguf, draw: random.Random) -> None:
    key = draw.choice([k for k, (_, v) in model.metadata.items() if isinstance(v, Array)])
    items = model.metadata[key][1].items
    del items[draw.randrange(len(items)) :]


def _token_types(model: Gguf, draw: random.Random) -> None:
    array = model.metadata.get("tokenizer.ggml.token_type")
    if array:
        items = array[1].items
        for _ in range(draw.choice((1, len(items)))):
            items[draw.randrange(len(items))] = draw.choice((0, 1, 2, 3, 4, 5, 6, 7, -1))


def _tokenizer(model: Gguf, draw: random.Random) -> None:
    model.set("tokenizer.ggml.model", draw.choice(_KINDS).encode(), 8)


def _pre(model: Gguf, draw: random.Random) -> None:
    model.set("tokenizer.ggml.pre", draw.choice(_PRES).encode(), 8)


def _special(model: Gguf, draw: random.Random) -> None:
    names = ("bos", "eos", "eot", "eom", "unknown", "separator", "padding", "mask", "fim_pre")
    count = len(model.words())
    model.set(
        f"tokenizer.ggml.{draw.choice(names)}_token_id",
        draw.choice((0, count - 1, count, 2**31, 2**32 - 1)),
        4,
    )


def _architecture(model: Gguf, draw: random.Random) -> None:
    model.rename(draw.choice(_ARCHITECTURES))


def _list(model: Gguf, draw: random.Random) -> None:
    arch = model.metadata["general.architecture"][1].decode()
    name = draw.choice(
        (
            "attention.head_count",
            "attention.head_count_kv",
            "feed_forward_length",
            "rope.dimension_sections",
        )
    )
    model.set(
        f"{arch}.{name}",
        Array(4, [draw.choice(_NUMBERS) for _ in range(draw.choice((0, 1, 4, 600)))]),
        9,
    )


_MUTATIONS: tuple[Callable[[Gguf, random.Random], None], ...] = (
    _number, _number, _new_number, _new_number, _float, _type, _type, _shape, _drop, _weights, _words, _fewer_words,
    _token_types, _tokenizer, _pre, _special, _architecture, _list,
)  # fmt: skip


def mutated(seed: int, models: list[Path]) -> Gguf:
    """The model of a seed."""
    draw = random.Random(seed)
    model = Gguf(draw.choice(models))
    for _ in range(draw.choice((1, 1, 2))):
        draw.choice(_MUTATIONS)(model, draw)
    return model


def main(backend: str, first: int, last: int) -> None:
    """Try each seed."""
    from tools.random_model import cached_model  # 100 ms with numpy

    kinds = ("qwen2vl", "gemma3", "mamba", "lfm2")
    models = [open_model("demo").path] * 4 + [cached_model(architecture=kind) for kind in kinds]
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, last):
            print(seed, end=" ", flush=True)
            path = mutated(seed, models).write(Path(folder, "m.gguf"))
            sampling = SamplingParams(temperature=0, max_tokens=4)
            try:
                with LlamaBridge(
                    path, backend=backend, n_ctx=64, n_threads=1, sampling=sampling
                ) as llama:
                    llama.tokenize("Hello, world! 123\n\n  \u4e16\u754c <s>")
                    print(repr(str(llama.generate("Hello there", chat=False))[:20]), flush=True)
            except BridgeError as error:
                print(type(error).__name__, str(error).replace("\n", " ")[-80:], flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
