"""Small random models, one for each weight format that has its own kernels."""

from __future__ import annotations

from pathlib import Path

from tools.random_model import Quantization, cached_model, vocabulary
from tools.random_model.cache import cache_folder

__all__ = ["FORMATS", "lend_vocabularies", "model"]

FORMATS: tuple[Quantization, ...] = ("f16", "q4_0", "q5_0", "q8_0", "q4_k", "q5_k", "q6_k")


def model(format: Quantization) -> Path:
    """A model all of this format, the output too, so that the last product also uses these kernels."""
    shape = {"vocab": "phi-3", "n_layer": 2, "n_embd": 256, "n_ff": 512}
    return cached_model(**shape, quantization=format)


def lend_vocabularies(cache: Path) -> None:
    """Link the vocabularies into another per-user cache, where pip could not fetch them."""
    vocabulary("llama-spm")  # all are unpacked with the first
    there = cache / "llama-bridge"
    there.mkdir(parents=True, exist_ok=True)
    for folder in cache_folder("").glob("vocabularies-*"):
        link = there / folder.name
        if not link.exists():
            link.symlink_to(folder)
