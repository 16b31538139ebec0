"""What llama.cpp takes for granted: a model that breaks it would end the process instead of failing to load."""

from __future__ import annotations

import math

from ..errors import InvalidInput, InvalidModel
from ..params import ModelParams
from .ggml_types import GGML_TYPES, KV_TYPES
from .gguf import GgufHeader
from .source import ModelFile

__all__ = ["check_model"]

_MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
_MAX_WINDOW = 1 << 24


def check_model(model: ModelFile, params: ModelParams) -> None:
    """Check the numbers that llama.cpp only asserts.

    Raises:
        InvalidModel: a number in the metadata cannot be.
        InvalidInput: the settings do not fit the model.
    """
    header = model.header
    _check_numbers(model, header)
    _check_kv_types(header, params)


def _check_numbers(model: ModelFile, header: GgufHeader) -> None:
    if not header.tensors:
        raise InvalidModel(model.path, "a vocabulary without tensors: no model to run")
    architecture = header.architecture
    layers = header.metadata.get(f"{architecture}.block_count", 1)
    if not isinstance(layers, int) or not 1 <= layers <= _MAX_LAYERS:
        raise InvalidModel(model.path, f"block_count is {layers!r}, not 1 to {_MAX_LAYERS}")
    for key, value in header.metadata.items():
        if not key.startswith(f"{architecture}."):
            continue
        name = key.removeprefix(f"{architecture}.")
        if "epsilon" in name and (
            not isinstance(value, int | float) or not math.isfinite(value) or value < 0
        ):
            raise InvalidModel(model.path, f"{name} is {value!r}, not a number of at least 0")
        if name == "attention.sliding_window" and (
            not isinstance(value, int) or not 0 <= value <= _MAX_WINDOW
        ):
            raise InvalidModel(model.path, f"{name} is {value!r}, not 0 to {_MAX_WINDOW}")
        if name == "attention.sliding_window_pattern" and isinstance(value, int) and value < 2:
            raise InvalidModel(model.path, f"{name} is {value!r}, not at least 2")
    for tensor in header.tensors:
        small = len(tensor.shape) == 1 and tensor.name.endswith(("norm.weight", ".bias"))
        if small and tensor.type_name not in ("F32", "F16", "BF16"):
            raise InvalidModel(model.path, f"tensor {tensor.name} is {tensor.type_name}, not F32")


def _check_kv_types(header: GgufHeader, params: ModelParams) -> None:
    architecture = header.architecture
    heads = header.number(f"{architecture}.attention.head_count")
    width = header.number(f"{architecture}.embedding_length")
    if heads < 1 or width < 1:
        return  # one number for each layer, or a kind without heads: llama.cpp decides
    for side in ("k", "v"):
        kind = params.type_k if side == "k" else params.type_v
        name = "key_length" if side == "k" else "value_length"
        size = header.number(f"{architecture}.attention.{name}", width // heads)
        block = GGML_TYPES[KV_TYPES[kind]].block
        if size % block:
            raise InvalidInput(
                f"type_{side}={kind!r} needs heads of a multiple of {block} elements, this model's have "
                f"{size}: use 'f16'"
            )
