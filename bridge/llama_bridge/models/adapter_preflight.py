"""Checks of an adapter against its model: what llama.cpp would only assert, and so end the process."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

from ..errors import InvalidModel
from .adapter import Adapter, is_adapter
from .ggml_types import NO_WEIGHTS
from .gguf import GgufHeader, TensorInfo
from .source import ModelFile

__all__ = ["check_adapter", "check_adapters"]

_U32, _F32, _STRING = 4, 6, 8
_KINDS = {
    "general.architecture": _STRING,
    "general.type": _STRING,
    "general.alignment": _U32,
    "adapter.type": _STRING,
    "adapter.lora.alpha": _F32,
}
"""llama.cpp reads them as these types, whatever they are."""
_WORDS = {_U32: "a uint32", _F32: "a float32", _STRING: "a text"}
_ENDINGS = (".lora_a", ".lora_b")
_EMBEDDING = "token_embd.weight"
_MAX_NAME = 64  # GGML_MAX_NAME


def check_adapters(adapters: Sequence[Adapter], model: ModelFile) -> None:
    """Check adapters that are to be in force together.

    Raises:
        InvalidModel: one is for another model, or damaged.
    """
    for adapter in adapters:
        check_adapter(adapter.file, model)


def check_adapter(adapter: ModelFile, model: ModelFile) -> None:
    """Check an adapter against the header of its model. Reads nothing.

    Raises:
        InvalidModel: it is for another model, or damaged.
    """
    for wrong in _wrong(adapter.header, model.header):
        raise InvalidModel(adapter.path, wrong)


def _wrong(header: GgufHeader, base: GgufHeader) -> Generator[str]:
    """Describe what is wrong, the most telling first."""
    for key, kind in _KINDS.items():
        if header.kinds.get(key, kind) != kind:
            yield f"{key} is not {_WORDS[kind]}: damaged"
    if not is_adapter(header) or header.text("adapter.type") != "lora":
        yield "not a LoRA adapter"
    if header.architecture != base.architecture:
        yield (
            f"an adapter for the architecture {header.architecture!r}, but the model's is {base.architecture!r}: "
            "load it with the model that it was made from"
        )
    if "adapter.alora.invocation_tokens" in header.metadata:
        yield "an activated LoRA, which acts only from certain tokens on: that cannot be used here"
    alpha = header.metadata.get("adapter.lora.alpha", 0.0)
    if not isinstance(alpha, float) or not math.isfinite(alpha):
        yield f"adapter.lora.alpha is {alpha!r}: damaged"
    yield from _wrong_tensors(header, base)


def _wrong_tensors(header: GgufHeader, base: GgufHeader) -> Generator[str]:
    pairs: dict[str, dict[str, TensorInfo]] = {}
    for tensor in header.tensors:
        stem, ending = tensor.name[:-7], tensor.name[-7:]
        if ending not in _ENDINGS:
            if tensor.name.endswith("_norm.weight"):
                continue  # llama.cpp leaves these out
            yield f"tensor {tensor.name!r} is neither a lora_a nor a lora_b"
        if not stem or any(part in stem for part in _ENDINGS) or len(tensor.name) >= _MAX_NAME:
            yield f"tensor {tensor.name!r} has an impossible name: damaged"
        if wrong := _wrong_type(tensor):
            yield f"tensor {tensor.name} is {tensor.type_name}, {wrong}"
        if ending in pairs.setdefault(stem, {}):
            yield f"tensor {tensor.name!r} is there twice: damaged"
        pairs[stem][ending] = tensor
    if not pairs:
        yield "it has no lora_a and lora_b tensors: it changes nothing"
    if not base.tensors:
        return  # a model for tests, without weights
    of_model = {tensor.name: tensor for tensor in base.tensors}
    for stem, pair in pairs.items():
        for ending in _ENDINGS:
            if ending not in pair:
                yield f"tensor {stem}{ending} is missing: damaged"
        changed = of_model.get(stem)
        if changed is None:
            yield f"it changes {stem}, which the model does not have: it was made for another model"
        else:
            yield from _wrong_pair(changed, pair[".lora_a"], pair[".lora_b"])
    if _EMBEDDING in pairs and "output.weight" not in of_model:
        yield (
            f"it changes {_EMBEDDING}, which is the model's output, too: llama.cpp cannot use such an adapter. "
            "Merge it into the model"
        )


def _wrong_type(tensor: TensorInfo) -> str:
    if tensor.type_name in NO_WEIGHTS or tensor.n_bytes is None:
        return "a type that llama.cpp cannot compute with"
    if 0 in tensor.shape:
        return "but it has no elements: damaged"
    return ""


def _wrong_pair(changed: TensorInfo, a: TensorInfo, b: TensorInfo) -> Generator[str]:
    """A is ``(columns, rank)``, B ``(rank, rows)`` in ggml's order, for each expert; of the embedding both are turned."""
    whole, left, right = (_four(tensor) for tensor in (changed, a, b))
    columns, rows, *rest = whole
    if len([n for n in changed.shape if n > 1]) < 2 and rows == 1:
        yield f"it changes {changed.name}, which is no matrix: that cannot be used"
    if changed.name.endswith(_EMBEDDING):
        rank = left[0]
        wanted = [rank, rows, *rest], [rank, columns, *rest]
    else:
        rank = left[1]
        wanted = [columns, rank, *rest], [rank, rows, *rest]
    for tensor, found, right_shape in ((a, left, wanted[0]), (b, right, wanted[1])):
        if found != right_shape:
            yield (
                f"tensor {tensor.name} has the shape {list(tensor.shape)}, but {changed.name} of the model has "
                f"{list(changed.shape)}: it was made for another model"
            )


def _four(tensor: TensorInfo) -> list[int]:
    """The shape in four dimensions, as ggml has it."""
    shape = list(tensor.shape)
    return shape + [1] * (4 - len(shape))
