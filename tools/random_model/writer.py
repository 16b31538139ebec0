"""Writes the file: a real vocabulary, the requested shape, random weights."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import gguf
import numpy as np
import numpy.typing as npt

from .architectures import ARCHITECTURES
from .cache import cache_folder, kept
from .layers import Shape, Tensor
from .vocabularies import Vocabulary, vocabulary

__all__ = ["CHATML", "QWEN2_HALF_BILLION", "TINY", "Quantization", "cached_model", "write_model"]

Quantization = Literal["f16", "q4_0", "q5_0", "q8_0", "q4_k", "q5_k", "q6_k"]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The template of Qwen and many others, for vocabularies that have its two control tokens."""


class _Parameters(TypedDict, total=False):
    vocab: str
    architecture: str
    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: int
    n_ff: int
    n_ctx_train: int
    n_swa: int
    quantization: Quantization
    embedding: Quantization | None
    tied: bool
    seed: int
    chat_template: str | None
    pooling: str | None
    labels: Sequence[str]
    rerank_template: str | None
    chain: Sequence[int]


TINY: _Parameters = {"vocab": "llama-spm", "n_layer": 2, "n_embd": 64, "n_ff": 128}
"""Takes half a second to write, and milliseconds per token."""

QWEN2_HALF_BILLION: _Parameters = {
    "vocab": "qwen2",
    "architecture": "qwen2",
    "n_layer": 24,
    "n_embd": 896,
    "n_head": 14,
    "n_head_kv": 2,
    "n_ff": 4864,
    "n_ctx_train": 32_768,
    "quantization": "q4_0",
    "embedding": "q8_0",
    "tied": True,
    "chat_template": CHATML,
}
"""The shape of Qwen2-0.5B. The embedding has eight bits, as llama.cpp's quantiser would leave it."""

_POOLINGS = ("none", "mean", "cls", "last", "rank")  # llama.cpp's LLAMA_POOLING_TYPE_*
_FORMATS: dict[Quantization, tuple[gguf.GGMLQuantizationType, gguf.LlamaFileType]] = {
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "q4_0": (gguf.GGMLQuantizationType.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0),
    "q5_0": (gguf.GGMLQuantizationType.Q5_0, gguf.LlamaFileType.MOSTLY_Q5_0),
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "q4_k": (gguf.GGMLQuantizationType.Q4_K, gguf.LlamaFileType.MOSTLY_Q4_K_S),
    "q5_k": (gguf.GGMLQuantizationType.Q5_K, gguf.LlamaFileType.MOSTLY_Q5_K_S),
    "q6_k": (gguf.GGMLQuantizationType.Q6_K, gguf.LlamaFileType.MOSTLY_Q6_K),
}


@dataclass(frozen=True)
class _Block:
    """The layout of a quantised format.

    Attributes:
        weights: how many weights are in one block.
        dtype: one block: its ``scale``, in some formats ``least`` (the scale of what is subtracted), and the codes.
        spread: standard deviation of the weights at scale 1, if all codes are equally likely.
        middle: what to subtract at scale 1, so that the weights are centred on zero.
    """

    weights: int
    dtype: np.dtype[np.void]
    spread: float
    middle: float = 0.0


_SCALES = [("scale", "<f2"), ("least", "<f2"), ("scales", "u1", 12)]
_BLOCKS: dict[Quantization, _Block] = {
    "q4_0": _Block(32, np.dtype([("scale", "<f2"), ("weights", "u1", 16)]), 4.61),
    "q5_0": _Block(32, np.dtype([("scale", "<f2"), ("weights", "u1", 20)]), 9.23),
    "q8_0": _Block(32, np.dtype([("scale", "<f2"), ("weights", "i1", 32)]), 73.6),
    "q4_k": _Block(256, np.dtype([*_SCALES, ("weights", "u1", 128)]), 258.0, 7.5),
    "q5_k": _Block(256, np.dtype([*_SCALES, ("weights", "u1", 160)]), 527.0, 15.5),
    "q6_k": _Block(256, np.dtype([("weights", "u1", 208), ("scale", "<f2")]), 1366.0),
}


_UNUSED = 86_400
"""Seconds after which a model of another version is removed."""
_RECENT = _UNUSED / 2
"""Seconds in which a model counts as used just now."""


def cached_model(**parameters: Any) -> Path:
    """A model with these parameters of :func:`write_model`, from the per-user cache; the first call writes it."""
    here = sorted(Path(__file__).parent.glob("*.py"))
    made_by = hashlib.sha256(b"".join(path.read_bytes() for path in here)).hexdigest()[:12]
    made_of = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:12]
    folder = cache_folder("models")
    file = folder / f"random-{made_of}-{made_by}.gguf"
    if not file.exists():
        for old in folder.glob(f"random-{made_of}-*.gguf"):  # from another version of these tools
            with contextlib.suppress(FileNotFoundError):
                if (
                    time.time() - old.stat().st_mtime > _UNUSED
                ):  # otherwise another checkout may be using it
                    old.unlink()
    made = kept(file, lambda path: write_model(path, **parameters))
    if time.time() - made.stat().st_mtime > _RECENT:
        made.touch()  # not each time: a browser refuses to read a file that was touched after somebody chose it
    return made


def write_model(
    path: Path,
    *,
    vocab: str = "llama-spm",
    architecture: str = "llama",
    n_layer: int = 2,
    n_embd: int = 64,
    n_head: int = 4,
    n_head_kv: int = 2,
    n_ff: int = 128,
    n_ctx_train: int = 4096,
    n_swa: int = 32,
    quantization: Quantization = "f16",
    embedding: Quantization | None = None,
    tied: bool = False,
    seed: int = 0,
    chat_template: str | None = None,
    pooling: str | None = None,
    labels: Sequence[str] = (),
    rerank_template: str | None = None,
    hollow: bool = False,
    chain: Sequence[int] = (),
) -> None:
    """Write a random model that unmodified llama.cpp loads. The same arguments give the same bytes.

    Greedy decoding never draws an end token, because the output rows of all control tokens are zero.

    Args:
        path: where to write the GGUF file.
        vocab: name of a vocabulary, see :func:`tools.random_model.vocabulary`.
        architecture: ``llama``, ``qwen2`` or ``qwen2vl`` (dense; the last with M-RoPE), ``gemma3`` (sliding window), ``mamba`` (recurrent),
            ``lfm2`` (hybrid), ``qwen3``, ``gemma2``, ``gpt2``, ``mamba2``, ``phi3``, ``qwen3moe`` (experts), ``rwkv7``; those that only embed: ``bert``, ``nomic-bert``, ``jina-bert-v2``,
            ``modern-bert``, ``gemma-embedding``, ``t5encoder``.
        n_layer, n_embd, n_head, n_head_kv, n_ff, n_ctx_train: as in llama.cpp.
        n_swa: length of the sliding window, where there is one.
        quantization: of the matrices.
        embedding: quantisation of embedding and output, if another.
        tied: whether the embedding is the output matrix too.
        seed: of the weights.
        chat_template: Jinja source, or None for a model without one.
        pooling: how it embeds: ``mean``, ``cls``, ``last``, or ``rank`` with ``labels``; None for a model that does not.
        labels: names of a reranker's scores, for ``bert``, ``modern-bert`` and ``qwen3``.
        rerank_template: how a reranker reads ``{query}`` and ``{document}``.
        chain: tokens of which each is followed by the next one, and the last by the first, so that greedy answers go round.
            For quantised models that are not ``tied``; they compute as much as any other.
        hollow: leave out the weights: a hole in the file, which has its size and takes no room. For questions to a header.
    """
    words = vocabulary(vocab)
    form = ARCHITECTURES[architecture]
    shape = Shape(
        words.n_tokens, n_layer, n_embd, n_head, n_head_kv, n_ff, n_ctx_train, n_swa, tuple(labels)
    )
    writer = _Writer(path, architecture)
    writer.add_name(f"random {architecture} {vocab} {seed}")
    writer.add_file_type(_FORMATS[quantization][1])
    for key, value in form.metadata(shape).items():
        _add(writer, f"{architecture}.{key}", value)
    for key, raw in words.entries.items():
        if not key.startswith("tokenizer.chat_template"):
            writer.add_raw(key, raw)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    if rerank_template is not None:
        writer.add_string("tokenizer.chat_template.rerank", rerank_template)
    if not form.has_output and "tokenizer.ggml.token_type_count" not in words.entries:
        writer.add_uint32("tokenizer.ggml.token_type_count", 2)
    if pooling is not None:
        writer.add_uint32(f"{architecture}.pooling_type", _POOLINGS.index(pooling))
    if labels:
        writer.add_array(f"{architecture}.classifier.output_labels", list(labels))

    tensors = [
        Tensor("token_embd.weight", (words.n_tokens, n_embd), "output" if tied else "embedding")
    ]
    if form.has_output and not tied:
        tensors.append(Tensor("output.weight", (words.n_tokens, n_embd), "output"))
    if form.output_norm is not None:
        tensors.append(Tensor(f"{form.output_norm}.weight", (n_embd,), "norm"))
    tensors += form.more(shape)
    tensors += [tensor for i in range(n_layer) for tensor in form.layer(shape, i)]
    embedded: npt.NDArray[Any] = np.zeros(0)
    for i, tensor in enumerate(tensors):
        rng = np.random.Generator(np.random.SFC64([seed, i]))
        stored = quantization if tensor.kind == "matrix" else embedding or quantization
        if hollow:
            _announce(writer, tensor, stored)
            continue
        weights = _weights(rng, tensor, stored, words)
        if i == 0:
            embedded = weights
        if chain and weights.dtype == np.uint8:
            _chain(tensor, weights, embedded, stored, chain)
        _add_tensor(writer, tensor, weights, stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    if hollow:
        _leave_out(writer, path)
        return
    writer.write_tensors_to_file()
    writer.close()


def _chain(
    tensor: Tensor,
    weights: npt.NDArray[Any],
    embedding: npt.NDArray[Any],
    quantization: Quantization,
    chain: Sequence[int],
) -> None:
    """Make the output row of each token in the chain the embedding of the one before; layers add nothing to that."""
    block = _BLOCKS[quantization].dtype
    rows = weights.view(block)
    if tensor.kind == "output":
        before = [*chain[-1:], *chain[:-1]]
        rows["weights"][list(chain)] = embedding.view(block)["weights"][before]
    elif tensor.name.endswith(("attn_output.weight", "ffn_down.weight")):
        rows["scale"] = 0


class _Writer(gguf.GGUFWriter):
    """A writer that also accepts a value as its raw bytes from another GGUF file."""

    def add_raw(self, key: str, raw: bytes) -> None:
        self.add_key_value(key, raw, gguf.GGUFValueType.ARRAY)

    def _pack_val(self, val: Any, vtype: Any, add_vtype: bool, sub_type: Any = None) -> bytes:
        if isinstance(val, bytes) and vtype is gguf.GGUFValueType.ARRAY:
            return val
        return bytes(super()._pack_val(val, vtype, add_vtype, sub_type))


def _add(
    writer: gguf.GGUFWriter, key: str, value: bool | int | float | list[int] | list[str]
) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_uint32(key, value)


def _add_tensor(
    writer: gguf.GGUFWriter, tensor: Tensor, data: npt.NDArray[Any], quantization: Quantization
) -> None:
    if data.dtype == np.uint8:
        writer.add_tensor(tensor.name, data, raw_dtype=_FORMATS[quantization][0])
    else:
        writer.add_tensor(tensor.name, data)


def _announce(writer: gguf.GGUFWriter, tensor: Tensor, quantization: Quantization) -> None:
    """Add a row to the tensor table, without the weights."""
    stored = gguf.GGMLQuantizationType.F32
    if tensor.kind in ("matrix", "embedding", "output"):
        stored = _FORMATS[quantization][0]
    block, n_bytes = gguf.GGML_QUANT_SIZES[stored]
    size = math.prod(tensor.shape) // block * n_bytes
    kind = np.dtype(np.float16 if stored is gguf.GGMLQuantizationType.F16 else np.float32)
    raw = None if stored.name in ("F16", "F32") else stored
    shape = tensor.shape
    if raw is not None:
        kind = np.dtype(np.uint8)
        shape = (*shape[:-1], shape[-1] // block * n_bytes)
    writer.add_tensor_info(tensor.name, shape, kind, size, raw_dtype=raw)


def _leave_out(writer: gguf.GGUFWriter, path: Path) -> None:
    """Write the tensor table, and a hole for the weights."""
    writer.write_ti_data_to_file()
    weights = sum(
        -(-info.nbytes // writer.data_alignment) * writer.data_alignment
        for table in writer.tensors
        for info in table.values()
    )
    writer.close()
    written = path.stat().st_size
    os.truncate(path, -(-written // writer.data_alignment) * writer.data_alignment + weights)


def _weights(
    rng: np.random.Generator, tensor: Tensor, quantization: Quantization, words: Vocabulary
) -> npt.NDArray[Any]:
    """Values that keep activations from vanishing or growing; quantised ones are rows of bytes."""
    kind, shape = tensor.kind, tensor.shape
    if kind not in ("matrix", "embedding", "output"):
        noise = rng.standard_normal(shape, dtype=np.float32)
        match kind:
            case "norm":
                return 1 + noise / 16
            case "bias":
                return noise / 16
            case "decay":
                return -np.exp(noise)
            case _:
                return noise / np.float32(shape[-1] ** 0.5)
    silent = words.control_tokens if kind == "output" else []
    scale = 1.0 if kind == "embedding" else shape[-1] ** -0.5
    if quantization == "f16":
        values = (rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)).astype(
            np.float16
        )
        values[silent] = 0
        return values
    rows, columns = math.prod(shape[:-1]), shape[-1]
    block = _BLOCKS[quantization]
    if columns % block.weights:
        raise ValueError(
            f"{tensor.name}: rows of {columns} cannot be split into {quantization} blocks of {block.weights}"
        )
    n_blocks = columns // block.weights
    raw = bytearray(rng.bytes(rows * n_blocks * block.dtype.itemsize))
    data = np.frombuffer(raw, block.dtype).reshape(rows, n_blocks)
    data["scale"] = scale / block.spread
    data["scale"][silent] = 0
    if block.middle:
        data["least"] = data["scale"].astype(np.float32) * block.middle
    if quantization == "q8_0":  # the quantiser never gives -128, and kernels may rely on it
        np.maximum(data["weights"], -127, out=data["weights"])
    return data.view(np.uint8).reshape(*shape[:-1], -1)
