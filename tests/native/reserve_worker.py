"""A process that asks llama.cpp what a model would take: it reserves everything and allocates nothing."""

from __future__ import annotations

import ctypes
import json
import re
import sys

import llama_cpp

_SIZE = re.compile(r"(compute|output) buffer size\s*=\s*([\d.]+) MiB")


def reserved(path: str, n_ctx: int, at_once: int, flash_attn: bool, n_parallel: int) -> float:
    """MiB of work space."""
    lines.clear()
    loading = llama_cpp.llama_model_default_params()
    loading.no_alloc = True
    loading.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE
    model = llama_cpp.llama_model_load_from_file(path.encode(), loading)
    context = llama_cpp.llama_context_default_params()
    context.n_ctx, context.n_batch, context.n_ubatch = n_ctx, at_once, at_once
    context.n_seq_max, context.n_threads = n_parallel, 1
    context.kv_unified = True
    context.swa_full = False
    context.flash_attn_type = int(flash_attn)
    made = llama_cpp.llama_init_from_model(model, context)
    llama_cpp.llama_free(made)
    llama_cpp.llama_model_free(model)
    return sum(float(mib) for _, mib in _SIZE.findall("".join(lines)))


lines: list[str] = []


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _listen(_level: int, text: bytes, _data: object) -> None:
    lines.append(text.decode("utf-8", "replace"))


if __name__ == "__main__":
    llama_cpp.llama_log_set(_listen, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    print(json.dumps([reserved(*question) for question in json.loads(sys.argv[1])]))
