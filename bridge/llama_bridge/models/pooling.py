"""How a model pools the vectors of a text's tokens, and whether it has what that takes."""

from __future__ import annotations

from collections.abc import Generator
from typing import get_args

from ..errors import InvalidInput, InvalidModel
from ..params import ModelParams, Pooling
from .gguf import GgufHeader
from .source import ModelFile

__all__ = ["POOLINGS", "check_pooling", "is_causal", "pooling_of"]

POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
"""In the order of llama.cpp's numbers (``LLAMA_POOLING_TYPE_*``)."""


def pooling_of(header: GgufHeader, params: ModelParams) -> Pooling:
    """The pooling that is asked for, else the model's own; ``"none"`` if it names none."""
    if params.pooling is not None:
        return params.pooling
    number = header.number(f"{header.architecture}.pooling_type")
    return POOLINGS[number] if 0 <= number < len(POOLINGS) else "none"


def is_causal(header: GgufHeader) -> bool:
    """Whether a token attends only to those before it, as far as the file says."""
    arch = header.architecture
    return (
        arch != "gemma-embedding" and header.metadata.get(f"{arch}.attention.causal") is not False
    )


def check_pooling(model: ModelFile, params: ModelParams) -> None:
    """Check what llama.cpp only asserts, or reads past.

    Raises:
        InvalidModel: the file names a pooling that does not exist, or that its tensors cannot give.
        InvalidInput: ``params.pooling`` does not fit the model.
    """
    for wrong in _wrong(model.header, pooling_of(model.header, params)):
        if params.pooling is not None:
            raise InvalidInput(f"pooling={params.pooling!r} does not fit this model: {wrong}")
        raise InvalidModel(model.path, wrong)


def _wrong(header: GgufHeader, pooling: Pooling) -> Generator[str]:
    arch = header.architecture
    yield from _wrong_encoder(header)
    number = header.metadata.get(f"{arch}.pooling_type", 0)
    if not isinstance(number, int) or not 0 <= number < len(POOLINGS):
        yield f"pooling_type is {number!r}, not 0 to {len(POOLINGS) - 1}"
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    width = header.number(f"{arch}.embedding_length")
    out = header.number(f"{arch}.embedding_length_out", width)
    dense = [shapes.get(f"dense_{i}.weight") for i in (2, 3)]
    if pooling == "none":
        return
    if pooling == "rank":
        head = shapes.get("cls.weight")
        if "cls.output.weight" not in shapes and (head is None or _rows(head) != 1):
            yield "it has no classifier head, so it is not a reranker"
        if any(dense):
            yield "it has dense layers after its pooling, which give no scores"
    elif arch == "gemma-embedding":
        sizes = {key: header.number(f"{arch}.{key}") for key in _DENSE_SIZES}
        if any(dense) and not all(dense):
            yield "it has one of two dense layers"
        if any(sizes.values()) and (
            sizes["dense_2_feat_in"] != width
            or sizes["dense_3_feat_out"] != width
            or sizes["dense_2_feat_out"] != sizes["dense_3_feat_in"]
        ):
            yield "its dense layers do not fit together"
    ends_as_wide = arch == "gemma-embedding" or dense[0] is None
    if pooling != "rank" and out not in (0, width) and ends_as_wide:
        yield f"embedding_length_out is {out}, but nothing makes vectors of that length"
    if arch in _WIDER:
        yield "its states are wider than its embeddings"


def _wrong_encoder(header: GgufHeader) -> Generator[str]:
    """What ends llama.cpp when an encoder computes: no K and V, or no layer of one of two kinds of attention."""
    arch = header.architecture
    if is_causal(header):
        return
    if header.metadata.get(f"{arch}.attention.head_count_kv") == 0:
        yield "attention.head_count_kv is 0"
    if arch not in _PATTERNS or not header.number(f"{arch}.attention.sliding_window"):
        return
    pattern = header.metadata.get(f"{arch}.attention.sliding_window_pattern", _PATTERNS[arch])
    n_layers = header.number(f"{arch}.block_count")
    least = (
        2 if arch == "modern-bert" else pattern
    )  # the first or the last of a pattern attends to all
    if isinstance(pattern, int) and (pattern < 2 or (isinstance(least, int) and n_layers < least)):
        yield f"sliding_window_pattern is {pattern} in {n_layers} layers: one kind of attention has no layer"


_PATTERNS = {"gemma-embedding": 6, "modern-bert": 3}
"""How many layers llama.cpp counts to the next one without a window, if the file does not say."""
_DENSE_SIZES = ("dense_2_feat_in", "dense_2_feat_out", "dense_3_feat_in", "dense_3_feat_out")
_WIDER = frozenset(("deepseek4", "gemma4-assistant"))
"""Architectures whose states llama.cpp would read as embeddings of another length."""


def _rows(shape: tuple[int, ...]) -> int:
    return shape[1] if len(shape) > 1 else 1
