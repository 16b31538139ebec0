"""LoRA adapters with one or two things changed, put in force one after the other in this process.

``python -m tests.models.adapter_mutants BACKEND FROM TO``: says each seed before it is tried, so that the last one said is
the one that ended the process. ``--raw`` leaves the preflight out, to see what it is for.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llama_bridge import BridgeError, EngineBackend, ModelParams, registry
from llama_bridge.models.adapter import read_adapters
from llama_bridge.models.source import open_model
from llama_bridge.testing.adapters import write_adapter
from tests.gguf_editing import SIZES, EditedTensor, Gguf
from tools.random_model import TINY, write_model

__all__ = ["main", "mutated"]

MODELS: list[dict[str, Any]] = [
    {"architecture": "llama"},
    {"architecture": "qwen2", "tied": True},
    {"architecture": "gemma3", "quantization": "q4_0"},
    {"architecture": "lfm2"},
    {"architecture": "mamba"},
]
_SIZES = (0, 1, 2, 3, 7, 32, 64, 65, 128, 4096, 2**31 - 1, 2**32, 2**62, 2**63)
_KEYS = ("general.architecture", "general.type", "general.alignment", "adapter.type", "adapter.lora.alpha",
         "adapter.alora.invocation_tokens", "general.name", "tokenizer.ggml.tokens")  # fmt: skip
_VALUES = (
    (4, 32), (4, 1), (4, 8), (4, 0), (5, -1), (6, float("nan")), (6, float("inf")), (6, 0.0), (6, 1e38), (7, True),
    (8, b"lora"), (8, b"adapter"), (8, b"llama"), (8, b""), (8, b"\xff"), (10, 32), (10, 2**63), (12, 8.0),
)  # fmt: skip


def _pick(adapter: Gguf, draw: random.Random) -> EditedTensor:
    return draw.choice(list(adapter.tensors.values()))


def _value(adapter: Gguf, names: list[str], draw: random.Random) -> None:
    kind, value = draw.choice(_VALUES)
    adapter.metadata[draw.choice(_KEYS)] = kind, value


def _no_value(adapter: Gguf, names: list[str], draw: random.Random) -> None:
    adapter.metadata.pop(draw.choice(_KEYS), None)


def _size(adapter: Gguf, names: list[str], draw: random.Random) -> None:
    tensor = _pick(adapter, draw)
    tensor.shape[draw.randrange(len(tensor.shape))] = draw.choice(_SIZES)
    _refill(tensor)


def _turned(adapter: Gguf, names: list[str], draw: random.Random) -> None:
    _pick(adapter, draw).shape.reverse()


def _dimensions(adapter: Gguf, names: list[str], draw: random.Random) -> None:
    tensor = _pick(adapter, draw)
    if draw.random() < 0.5:
        tensor.shape += [draw.choice((1, 2, 4))] * draw.choice((1, 2, 5))
    else:
        del tensor.shape[1:]
    _refill(tensor)


def _both_dimensions(adapter: Gguf, names: list[str], draw: random.Random) -> None:
    stem = _pick(adapter, draw).name[:-7]
    for side in "ab":
        if tensor := adapter.tensors.get(f"{stem}.lora_{side}"):
            tensor.shape.append(2)
            _refill(tensor)


def _rank(adapter: Gguf, names: list[str], draw: random.Random) -> None:
    stem, rank = _pick(adapter, draw).name[:-7], draw.choice((0, 1, 2, 32, 500))
    for side, at in (("a", 1), ("b", 0)):
        tensor = adapter.tensors.get(f"{stem}.lora_{side}")
        if tensor is not None and len(tensor.shape) > at:
            tensor.shape[at] = rank
            _refill(tensor)


def _type(adapter: Gguf, names: list[str], draw: random.Random) -> None:
    tensor = _pick(adapter, draw)
    fitting = [type_ for type_, (block, _) in SIZES.items() if tensor.shape[0] % block == 0]
    tensor.type = draw.choice([*fitting, 4, 99, 2**31])
    _refill(tensor)


def _another_name(adapter: Gguf, names: list[str], draw: random.Random) -> None:
    """Of another tensor of the model, with the right shape or without."""
    stem, name = _pick(adapter, draw).name[:-7], draw.choice(names)
    for side in "ab":
        if tensor := adapter.tensors.pop(f"{stem}.lora_{side}", None):
            tensor.name = f"{name}.lora_{side}"
            adapter.tensors[tensor.name] = tensor


def _bad_name(adapter: Gguf, names: list[str], draw: random.Random) -> None:
    tensor = _pick(adapter, draw)
    tensor.name = draw.choice(
        ("", ".lora_a", "x", tensor.name + ".lora_b", "a" * 70 + ".lora_a", "output_norm.weight",
         tensor.name.replace("lora_a", "lora_b"), "blk.0.lora_a.lora_a", "\0.lora_a")
    )  # fmt: skip


def _lost(adapter: Gguf, names: list[str], draw: random.Random) -> None:
    del adapter.tensors[draw.choice(list(adapter.tensors))]


def _weights(adapter: Gguf, names: list[str], draw: random.Random) -> None:
    tensor = _pick(adapter, draw)
    tensor.data = draw.randbytes(len(tensor.data))


def _refill(tensor: EditedTensor) -> None:
    """Data of the size that shape and type ask for, if that is not absurd."""
    block, size = SIZES.get(tensor.type, (1, 4))
    n = 1
    for width in tensor.shape:
        n *= width
    n_bytes = n // block * size
    if n_bytes < 1 << 22:
        tensor.data = (tensor.data * (n_bytes // max(1, len(tensor.data)) + 1))[:n_bytes]


_EDITS: list[Callable[[Gguf, list[str], random.Random], None]] = [
    _value, _value, _no_value, _size, _turned, _dimensions, _both_dimensions, _rank, _type, _another_name, _another_name,
    _bad_name, _lost, _weights,
]  # fmt: skip


def mutated(seed: Path, names: list[str], number: int, path: Path) -> Path:
    """Write the so-and-so-many-th mutant of an adapter of a model with tensors of these names."""
    draw = random.Random(number)
    adapter = Gguf(seed)
    for edit in draw.choices(_EDITS, k=draw.choice((1, 1, 2, 3))):
        if adapter.tensors:
            edit(adapter, names, draw)
    try:
        adapter.write(path)
    except Exception:  # a value that does not fit its type
        path.write_bytes(seed.read_bytes())
    data = bytearray(path.read_bytes())
    if draw.random() < 0.3:
        for _ in range(draw.choice((1, 3, 20))):
            data[draw.randrange(min(len(data), 3000))] = draw.choice(
                (0, 1, 255, draw.randrange(256))
            )
    if draw.random() < 0.1:
        del data[draw.randrange(len(data)) :]
    path.write_bytes(data)
    return path


def main(backend: str, first: int, last: int) -> None:
    """Try mutants of each kind of model in turn."""
    (made,) = registry.candidates(backend)
    assert isinstance(made, EngineBackend)
    with tempfile.TemporaryDirectory() as place:
        folder, live = Path(place), []
        for i, changes in enumerate(MODELS):
            arguments: dict[str, Any] = {**TINY, **changes}
            write_model(folder / f"{i}.gguf", **arguments)
            model = open_model(folder / f"{i}.gguf")
            seed = write_adapter(
                folder / f"{i}-adapter.gguf", model, changes=lambda t: t.name.startswith("blk.")
            )
            engine = made.load(model, ModelParams(n_ctx=64, n_batch=16, n_threads=1))
            live.append((engine, seed, [tensor.name for tensor in model.header.tensors]))
        for number in range(first, last):
            print(number, end=" ", flush=True)
            engine, seed, names = live[number % len(live)]
            path = mutated(seed, names, number, folder / "mutant.gguf")
            try:
                engine.set_adapters(read_adapters([(path, 1.0)]))
                assert engine.info.adapters, "nothing is in force"
                engine.decode([1, 2, 3])
                engine.decode([4])
                engine.logits()
                outcome = "ran"
            except BridgeError as error:
                outcome = type(error).__name__
            print(outcome, flush=True)
            engine.set_adapters(())
            engine.clear()


if __name__ == "__main__":
    if "--raw" in sys.argv:
        import llama_bridge_native.engine

        sys.argv.remove("--raw")
        vars(llama_bridge_native.engine)["check_adapters"] = lambda adapters, model: None
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
