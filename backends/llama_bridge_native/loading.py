"""Loads a model file into llama.cpp: first the weights, then a context; or says why it cannot."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
from typing import Any

from llama_bridge.errors import ModelLoadError, OutOfMemory
from llama_bridge.local.cores import compute_threads
from llama_bridge.models.ggml_types import KV_TYPES
from llama_bridge.models.memory import kv_bytes_per_token
from llama_bridge.models.pooling import POOLINGS, is_causal, pooling_of
from llama_bridge.models.source import ModelFile
from llama_bridge.params import ModelParams
from llama_bridge.progress import OnProgress

from .devices import gpu_names
from .finite_weights import known_finite, not_finite, remember_finite
from .library import LoggedErrors, has_amx, lib
from .load_progress import LoadProgress

__all__ = ["is_encoder", "load_context", "load_embedding_context", "load_weights"]

_UBATCH = 512
_MIB = 1 << 20


def load_weights(
    file: ModelFile, params: ModelParams, errors: LoggedErrors, on_progress: OnProgress | None
) -> Any:
    """Load the weights and return llama.cpp's model.

    Raises:
        InvalidModel: a tensor holds NaN or infinity.
        ModelLoadError, OutOfMemory: with llama.cpp's own message.
    """
    options = lib.llama_model_default_params()
    progress = LoadProgress(on_progress, file.header.file_size)
    options.progress_callback = progress.callback
    options.load_mode = lib.LLAMA_LOAD_MODE_MMAP
    options.n_gpu_layers = params.asked_gpu_layers
    options.use_extra_bufts = (
        not has_amx()
    )  # without: weights as in the file, for kernels that every CPU has
    known = known_finite(file)
    options.check_tensors = not known  # 2 to 36 % of a load
    nothing = (ctypes.c_void_p * 1)()  # a list of no devices
    if params.asked_gpu_layers == 0:
        # Otherwise llama.cpp computes long prompts on a GPU all the same. That takes memory there which nobody counted, and
        # where it is missing llama.cpp ends the process.
        options.devices = ctypes.addressof(nothing)
    paths = [os.fsencode(part.path) for part in file.files]
    if len(paths) == 1:
        model = lib.llama_model_load_from_file(paths[0], options)
    else:  # by their paths: by its own rule llama.cpp finds no name in capitals, and no link
        array = (ctypes.c_char_p * len(paths))(*paths)
        model = lib.llama_model_load_from_splits(array, len(paths), options)
    try:
        progress.reraise()
        errors.reraise()
    except BaseException:
        if model:
            lib.llama_model_free(model)
        raise
    if not model:
        if (wrong := not_finite(file, errors)) is not None:
            raise wrong
        # The file is mapped, and much of it is copied in another order.
        raise _refusal(file, errors, 2 * file.header.file_size)
    if not known:
        remember_finite(file)
    return model


def load_context(
    model: Any, file: ModelFile, params: ModelParams, errors: LoggedErrors, *, least: bool = False
) -> Any:
    """Make a context; the ``least`` is for a model that only embeds, which does that in another.

    Raises:
        ModelLoadError: the model neither generates token by token nor embeds, or llama.cpp refused it.
        OutOfMemory: there is not enough memory.
    """
    if lib.llama_model_has_encoder(model) and lib.llama_model_has_decoder(model):
        raise ModelLoadError(file.path, _no_text(file, "an encoder-decoder model"))
    if lib.llama_model_is_diffusion(model):
        raise ModelLoadError(file.path, _no_text(file, "a diffusion model"))
    n_ctx = params.context_length(lib.llama_model_n_ctx_train(model))
    options = _options(file, params)
    options.n_ctx = n_ctx
    options.n_batch = min(params.n_batch, n_ctx)
    options.n_ubatch = min(params.n_batch, _UBATCH, n_ctx)
    options.n_seq_max = params.n_parallel
    options.kv_unified = True  # all sequences share the cells
    if least:
        options.n_batch = options.n_ubatch = options.n_seq_max = 1
    context = _make(model, options, errors)
    if not context:
        cells = n_ctx * (kv_bytes_per_token(file.header, params.type_k, params.type_v) or 0)
        raise _refusal(file, errors, cells + _work_bytes(model, options.n_ubatch))
    return context


def load_embedding_context(
    model: Any,
    file: ModelFile,
    params: ModelParams,
    n_tokens: int,
    at_once: int,
    n_sequences: int,
    n_outputs: int,
) -> Any:
    """Make a context for embeddings of up to so many tokens, computed so many at once.

    Raises:
        OutOfMemory: there is not enough memory.
        ModelLoadError: llama.cpp refused it.
    """
    options = _options(file, params)
    options.type_k = options.type_v = KV_TYPES["f16"]
    options.n_ctx = n_tokens
    options.n_batch = options.n_ubatch = at_once
    options.n_seq_max = n_sequences
    options.n_outputs_max = n_outputs
    options.kv_unified = True
    options.embeddings = True
    options.pooling_type = POOLINGS.index(pooling_of(file.header, params))
    with LoggedErrors() as errors:
        context = _make(model, options, errors)
        if not context:
            cells = n_tokens * (kv_bytes_per_token(file.header) or 0)
            raise _refusal(file, errors, cells + _work_bytes(model, at_once))
    return context


def is_encoder(model: Any, context: Any, file: ModelFile) -> bool:
    """Whether a model only embeds: it has no KV cache, or its tokens attend to those after them, too."""
    encodes: bool = lib.llama_model_has_encoder(model)
    return encodes or not is_causal(file.header) or not lib.llama_get_memory(context)


def _options(file: ModelFile, params: ModelParams) -> Any:
    options = lib.llama_context_default_params()
    options.n_threads = options.n_threads_batch = compute_threads(params, file.header.file_size)
    options.type_k = KV_TYPES[params.type_k]
    options.type_v = KV_TYPES[params.type_v]
    options.flash_attn_type = (
        lib.LLAMA_FLASH_ATTN_TYPE_ENABLED
        if params.flash_attn
        else lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
    )
    options.swa_full = False
    return options


def _make(model: Any, options: Any, errors: LoggedErrors) -> Any:
    context = lib.llama_init_from_model(model, options)
    try:
        errors.reraise()
    except BaseException:
        if context:
            lib.llama_free(context)
        raise
    return context


def _no_text(file: ModelFile, kind: str) -> str:
    return (
        f"{kind} ({file.header.architecture}) has no KV cache that grows token by token, so it cannot "
        "generate text here. Load a decoder model"
    )


def _work_bytes(model: Any, n_ubatch: int) -> int:
    """Estimate of the memory to evaluate so many tokens: their logits and some activations of each."""
    vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    return 4 * n_ubatch * int(vocabulary + 16 * lib.llama_model_n_embd(model))


def _refusal(file: ModelFile, errors: LoggedErrors, needed: int) -> ModelLoadError:
    """The error for a failed load. llama.cpp only logs a reason, so ask the system whether memory was missing.

    That of a GPU cannot be asked for afterwards: what was taken before is free again. llama.cpp names the buffer.
    """
    for gpu in gpu_names():
        name = gpu.partition(" ")[0]
        if re.search(rf"allocate {re.escape(name)}\w* buffer", str(errors)):
            return OutOfMemory(
                file.path,
                f"it needs more memory than is free on {gpu} ({errors}). Load it with fewer n_gpu_layers, with "
                'n_gpu_layers="auto", or with a smaller n_ctx',
            )
    if _has_room(needed):
        return ModelLoadError(file.path, f"llama.cpp could not load it: {errors}")
    return OutOfMemory(
        file.path,
        f"it needs about {needed / _MIB:,.0f} MiB, more than this process can get ({errors}). "
        "Load it with a smaller n_ctx, or load a smaller model",
    )


def _has_room(needed: int) -> bool:
    """Whether the system would give this process so many bytes now."""
    try:
        mmap.mmap(-1, max(1, needed)).close()
    except (OSError, OverflowError, ValueError, MemoryError):
        return False
    return True
