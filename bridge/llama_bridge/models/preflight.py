"""Checks what llama.cpp takes for granted: a model that violates it would end the process instead of failing to load.

The rules were found by mutating models and running them (``tests/fuzz/models``), and in llama.cpp's source. A header does
not show everything: to load untrusted files, use the wasm backend, which risks only its sandbox.
"""

from __future__ import annotations

from collections.abc import Generator

from ..errors import InvalidInput, InvalidModel
from ..params import ModelParams
from .adapter import is_adapter
from .architecture_rules import wrong_for_architecture
from .ggml_types import GGML_TYPES, KV_TYPES
from .gguf import GgufHeader
from .hyperparameters import Hyperparameters, wrong_numbers
from .pooling import check_pooling
from .source import ModelFile
from .tensor_preflight import wrong_tensors

__all__ = ["check_model"]


def check_model(model: ModelFile, params: ModelParams) -> None:
    """Check what llama.cpp only asserts. Reads nothing: the header shows it.

    Raises:
        InvalidModel: the header has an impossible value; the reason names its key or tensor.
        InvalidInput: the settings do not fit the model.
    """
    if is_adapter(model.header):
        raise InvalidModel(
            model.path,
            "this is a LoRA adapter, not a model: load its model, and give this one with adapters=[...]",
            "adapter",
        )
    for wrong in _wrong(model):
        raise InvalidModel(model.path, wrong)
    for part in model.files:
        for wrong in wrong_tensors(part.header):
            raise InvalidModel(part.path, wrong)
    _check_kv_types(model.header, params)
    check_pooling(model, params)


def _wrong(model: ModelFile) -> Generator[str]:
    """Describe what is wrong, the most telling first."""
    header = model.header
    if not header.tensors:
        yield "a vocabulary without tensors: there is no model to run"
    numbers = Hyperparameters(model)
    yield from wrong_numbers(numbers)
    yield from wrong_for_architecture(numbers)


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
