"""The measured models: random weights in the shape of Qwen2-0.5B, or a file."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

from tools.random_model import QWEN2_HALF_BILLION, TINY, cached_model

__all__ = ["find_models", "large_vocabulary", "quoting_model"]

_WRITTEN = ("q4_0", "q8_0", "f16")
_LARGER = QWEN2_HALF_BILLION | {
    "n_layer": 28,
    "n_embd": 1536,
    "n_head": 12,
    "n_ff": 8960,
}
"""The shape of Qwen2-1.5B."""
_Q4_K_M = 15  # enum llama_ftype


def find_models(names: list[str] | None, quick: bool) -> dict[str, Path]:
    """Label and path of each model; for a quick run without names, a tiny one."""
    if quick and not names:
        return {"tiny": cached_model(**TINY)}
    found = {}
    for name in names or ["q4_0", "q8_0"]:
        if name in _WRITTEN:
            found[f"0.5 B {name}"] = cached_model(**QWEN2_HALF_BILLION | {"quantization": name})
        elif name.startswith("1.5b-"):
            kind = name.removeprefix("1.5b-")
            found[f"1.5 B {kind}"] = cached_model(**_LARGER | {"quantization": kind})
        elif name == "q4_k_m":
            found[f"0.5 B {name}"] = _quantized()
        else:
            found[Path(name).stem] = Path(name)
    return found


def large_vocabulary() -> Path:
    """A small model around a vocabulary of 151,936 tokens: the less it computes, the more a token's checks weigh."""
    shape = QWEN2_HALF_BILLION | {"n_layer": 4, "n_embd": 512, "n_head": 8, "n_ff": 1024}
    return cached_model(**shape)


def quoting_model(chain: Sequence[int], *, quick: bool) -> Path:
    """A model whose greedy answer says these tokens one after the other, again and again."""
    shape = TINY | {"quantization": "q8_0"} if quick else QWEN2_HALF_BILLION
    return cached_model(**shape | {"tied": False, "chain": list(chain)})


def _quantized() -> Path:
    """Q4_K_M from llama.cpp's own quantiser, which cannot store rows of 896 values as Q4_K."""
    import llama_cpp

    shape = QWEN2_HALF_BILLION | {"quantization": "f16", "embedding": "f16"}
    whole = cached_model(**shape)
    file = whole.with_name(f"{whole.stem}-q4_k_m.gguf")
    if not file.exists():
        parameters = llama_cpp.llama_model_quantize_default_params()
        parameters.ftype = _Q4_K_M
        part = file.with_suffix(".part")
        status = llama_cpp.llama_model_quantize(bytes(whole), bytes(part), ctypes.byref(parameters))
        if status != 0:
            raise RuntimeError(f"llama.cpp could not quantise {whole}: status {status}")
        part.replace(file)
    return file
