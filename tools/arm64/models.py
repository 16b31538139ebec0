"""Small random models, one for each format of weights that has kernels of its own."""

from __future__ import annotations

from pathlib import Path

from tools.random_model import Quantization, cached_model

__all__ = ["FORMATS", "model"]

FORMATS: tuple[Quantization, ...] = ("f16", "q4_0", "q5_0", "q8_0", "q4_k", "q5_k", "q6_k")


def model(format: Quantization) -> Path:
    """A model of this format. All of it, the output too: so the last product goes through these kernels."""
    shape = {"vocab": "phi-3", "n_layer": 2, "n_embd": 256, "n_ff": 512}
    return cached_model(**shape, quantization=format)
