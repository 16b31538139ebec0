"""Checks what llama.cpp takes for granted: a model that violates it would end the process instead of failing to load.

The rules were found by mutating models and running them (``tests/models/mutants.py``). A header does not show
everything: to load untrusted files, use the wasm backend, which risks only its sandbox.
"""

from __future__ import annotations

import math
from collections.abc import Generator

from ..errors import InvalidInput, InvalidModel
from ..params import ModelParams
from .adapter import is_adapter
from .ggml_types import GGML_TYPES, KV_TYPES, NO_WEIGHTS
from .gguf import GgufHeader, TensorInfo, Value
from .pooling import check_pooling
from .source import ModelFile

__all__ = ["check_model"]

_MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
_MAX_EXPERTS = 1024  # LLAMA_MAX_EXPERTS
_MAX_WINDOW = 1 << 24
_ALIGNMENT = 32  # of tensor data mapped into memory

_ALWAYS_F32 = (
    "ssm_conv1d.weight",
    "shortconv.conv.weight",
    "ssm_a",
    "ssm_d",
    "ssm_norm.weight",
    "time_mix_first.weight",
    "time_mix_lerp_fused.weight",
)
"""Assumed to be F32 although they are not one-dimensional."""
_TABLES = ("tid2eid", "tid2eid.weight")
"""Lookup tables, which are not computed with: the experts of each token, as I32."""
_TWO_SHIFTS = ("rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7")


def check_model(model: ModelFile, params: ModelParams) -> None:
    """Check what llama.cpp only asserts.

    Raises:
        InvalidModel: the header has an impossible value.
        InvalidInput: the settings do not fit the model.
    """
    header = model.header
    if is_adapter(header):
        raise InvalidModel(
            model.path,
            "this is a LoRA adapter, not a model: load its model, and give this one with adapters=[...]",
            "adapter",
        )
    if not header.tensors:
        raise InvalidModel(model.path, "a vocabulary without tensors: there is no model to run")
    for part in model.files:
        if wrong := _wrong_alignment(part.header):
            raise InvalidModel(part.path, wrong)
    for wrong in _wrong_numbers(header):
        raise InvalidModel(model.path, wrong)
    for tensor in header.tensors:
        if wrong := _wrong_type(tensor):
            raise InvalidModel(model.path, f"tensor {tensor.name} is {tensor.type_name}, {wrong}")
    _check_kv_types(header, params)
    check_pooling(model, params)


def _wrong_alignment(header: GgufHeader) -> str:
    """Why the data of a file cannot be mapped into memory; empty if it can."""
    alignment = header.metadata.get("general.alignment", _ALIGNMENT)
    if isinstance(alignment, int) and not alignment % _ALIGNMENT:
        return ""
    return f"general.alignment is {alignment!r}, not a multiple of {_ALIGNMENT}"


def _wrong_numbers(header: GgufHeader) -> Generator[str]:
    """Describe each impossible number."""
    data, arch = header.metadata, header.architecture
    layers = data.get(f"{arch}.block_count", 1)
    if not isinstance(layers, int) or not 1 <= layers <= _MAX_LAYERS:
        yield f"block_count is {layers!r}, not 1 to {_MAX_LAYERS}"
    for key, value in data.items():
        if key.startswith(f"{arch}."):
            yield from _wrong_number(key.removeprefix(f"{arch}."), value)
    yield from _wrong_experts(header)
    yield from _wrong_heads(header)
    draft = header.number(f"{arch}.nextn_predict_layers")
    if not 0 <= draft < header.number(f"{arch}.block_count", 1):
        yield f"nextn_predict_layers is {draft}, but there are not that many layers"
    shifts = header.number(f"{arch}.token_shift_count", 2)
    if arch in _TWO_SHIFTS and shifts != 2:
        yield f"token_shift_count is {shifts}, not 2"


def _wrong_number(name: str, value: Value) -> Generator[str]:
    if "epsilon" in name and (
        not isinstance(value, int | float) or not math.isfinite(value) or value < 0
    ):
        yield f"{name} is {value!r}, not a number of at least 0"
    if name == "attention.sliding_window" and (
        not isinstance(value, int) or not 0 <= value <= _MAX_WINDOW
    ):
        yield f"{name} is {value!r}, not 0 to {_MAX_WINDOW}"
    if name == "attention.sliding_window_pattern" and isinstance(value, int) and value < 2:
        yield f"{name} is {value!r}, not at least 2"


def _wrong_experts(header: GgufHeader) -> Generator[str]:
    arch = header.architecture
    count, used = (header.number(f"{arch}.expert_{name}") for name in ("count", "used_count"))
    if not 0 <= count <= _MAX_EXPERTS:
        yield f"expert_count is {count}, not 0 to {_MAX_EXPERTS}"
    if not min(1, count) <= used <= count:
        yield f"expert_used_count is {used}, but there are {count} experts"
    groups = header.number(f"{arch}.expert_group_count")
    if groups and (groups < 0 or count % groups or count == 0):
        yield f"expert_group_count is {groups}, but there are {count} experts"
    chosen = header.number(f"{arch}.expert_group_used_count")
    if not 0 <= chosen <= max(groups, 0):
        yield f"expert_group_used_count is {chosen}, but there are {groups} groups"


def _wrong_heads(header: GgufHeader) -> Generator[str]:
    arch = header.architecture
    heads = header.metadata.get(f"{arch}.attention.head_count")
    width = header.number(f"{arch}.embedding_length")
    if not isinstance(heads, int) or heads == 0:
        return  # one number for each layer, or a kind without heads
    if heads < 0:
        yield f"attention.head_count is {heads}"
        return
    kv_heads = header.metadata.get(f"{arch}.attention.head_count_kv", heads)
    if isinstance(kv_heads, int) and (kv_heads < 0 or (kv_heads and heads % kv_heads)):
        yield f"attention.head_count_kv is {kv_heads}, which does not divide {heads}"
    size = header.number(f"{arch}.attention.key_length", width // heads)
    turned = header.number(f"{arch}.rope.dimension_count", size)
    if turned < 0 or turned % 2 or (size and turned > size):
        yield f"rope.dimension_count is {turned}, but a head has {size} elements"
    sections = header.metadata.get(f"{arch}.rope.dimension_sections")
    if isinstance(sections, list):
        numbers = [n for n in sections if isinstance(n, int)]
        if len(numbers) != len(sections) or min(numbers, default=0) < 0 or sum(numbers) > size:
            yield f"rope.dimension_sections is {sections!r}, but a head has {size} elements"


def _wrong_type(tensor: TensorInfo) -> str:
    """Why a tensor cannot have its type; empty if it can."""
    if tensor.type_name in NO_WEIGHTS and not tensor.name.endswith(_TABLES):
        return "a type that llama.cpp cannot compute with"
    vector = len(tensor.shape) == 1 or tensor.name.endswith(_ALWAYS_F32)
    if vector and tensor.type_name != "F32":
        return "not F32"
    return ""


def _check_kv_types(header: GgufHeader, params: ModelParams) -> None:
    architecture = header.architecture
    heads = header.number(f"{architecture}.attention.head_count")
    width = header.number(f"{architecture}.embedding_length")
    if heads < 1 or width < 1:
        return  # one number per layer, or no heads: llama.cpp decides
    for side in ("k", "v"):
        kind = params.type_k if side == "k" else params.type_v
        name = "key_length" if side == "k" else "value_length"
        size = header.number(f"{architecture}.attention.{name}", width // heads)
        block = GGML_TYPES[KV_TYPES[kind]].block
        if size % block:
            raise InvalidInput(
                f"type_{side}={kind!r} needs heads with a multiple of {block} elements, but this model's have "
                f"{size}: use 'f16'"
            )
