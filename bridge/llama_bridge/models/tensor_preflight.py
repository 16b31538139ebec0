"""Checks a model's tensor table: shapes, types, and where the weights are. Reads no weights."""

from __future__ import annotations

from collections.abc import Generator

from .ggml_types import NO_WEIGHTS
from .gguf import GgufHeader, TensorInfo

__all__ = ["wrong_tensors"]

_ALIGNMENT = 32  # of tensor data mapped into memory
_MAX_ALIGNMENT = 1 << 20
_MAX_NAME = 64  # GGML_MAX_NAME
_MAX_DIMENSIONS = 4  # GGML_MAX_DIMS
_MAX_ELEMENTS = 1 << 46

_ALWAYS_F32 = (
    "ssm_conv1d.weight",
    "shortconv.conv.weight",
    "ssm_a",
    "ssm_d",
    "ssm_norm.weight",
    "time_mix_first.weight",
    "time_mix_lerp_fused.weight",
    "channel_mix_lerp_k.weight",
    "channel_mix_lerp_r.weight",
    "token_types.weight",
)
"""Assumed to be F32 although they are not one-dimensional."""
_ONE_ROW = ("cls.weight", "cls.output.weight", "ffn_gate_inp_shexp.weight")
"""Matrices that may have one row. llama.cpp writes such a one with one dimension when it quantises a model, and multiplies
with it, so that its type is as free as any matrix's."""
_TABLES = ("tid2eid", "tid2eid.weight")
"""Lookup tables, which are not computed with: the experts of each token, as I32."""


def wrong_tensors(header: GgufHeader) -> Generator[str]:
    """Describe what is wrong with the tensor table."""
    alignment = header.metadata.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or alignment % _ALIGNMENT or alignment > _MAX_ALIGNMENT:
        yield f"general.alignment is {alignment!r}, not a multiple of {_ALIGNMENT}"
        return
    seen: set[str] = set()
    end = 0
    for tensor in header.tensors:
        if wrong := _wrong(tensor):
            yield f"tensor {tensor.name} {wrong}"
        if tensor.name in seen:
            yield f"tensor {tensor.name} is there twice"
        seen.add(tensor.name)
        if tensor.offset != end:
            yield (
                f"tensor {tensor.name} begins at byte {tensor.offset:,} of the weights, but the one before it ends at "
                f"{end:,}: damaged"
            )
        end += -(-(tensor.n_bytes or 0) // alignment) * alignment


def _wrong(tensor: TensorInfo) -> str:
    """Why a tensor cannot be as it is; empty if it can."""
    if len(tensor.name.encode()) >= _MAX_NAME:
        return f"has a name of more than {_MAX_NAME - 1} bytes"
    if len(tensor.shape) > _MAX_DIMENSIONS:
        return f"has {len(tensor.shape)} dimensions, more than {_MAX_DIMENSIONS}"
    if not 0 < tensor.n_elements < _MAX_ELEMENTS:
        return f"has the shape {list(tensor.shape)}: damaged"
    if tensor.n_bytes is None:
        return f"is of {tensor.type_name}, which is not known"
    if tensor.type_name in NO_WEIGHTS and not tensor.name.endswith(_TABLES):
        return f"is {tensor.type_name}, a type that llama.cpp cannot compute with"
    vector = len(tensor.shape) == 1 and not tensor.name.endswith(_ONE_ROW)
    if (vector or tensor.name.endswith(_ALWAYS_F32)) and tensor.type_name != "F32":
        return f"is {tensor.type_name}, not F32"
    return ""
