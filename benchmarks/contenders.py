"""The engines that are compared: same model, context, threads, prompt, greedy sampling."""

from __future__ import annotations

import ctypes
import itertools
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from llama_bridge import LlamaBridge, ModelParams, SamplingParams

from .inside import engine_of

__all__ = [
    "Bridge",
    "Contender",
    "LlamaClass",
    "RawLoop",
    "Run",
    "Setting",
    "Speed",
    "text_of",
]

_WORDS = [
    "time",
    "and",
    "the",
    "river",
    "run",
    "past",
    "a",
    "house",
    "where",
    "light",
    "was",
    "kept",
    "for",
    "all",
    "who",
    "came",
    "in",
]


@dataclass(frozen=True, slots=True)
class Setting:
    """Settings of all contenders."""

    model: Path
    n_ctx: int
    n_threads: int
    n_batch: int = 512


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second of one run."""

    prefill: float
    decode: float


def text_of(n_tokens: int, count: Callable[[str], int]) -> str:
    """A text of ``n_tokens`` tokens, as ``count`` counts them, or as few more as whole words allow."""
    words: list[str] = []
    supply = itertools.cycle(_WORDS)
    while (missing := n_tokens - count(" ".join(words) or "")) > 0:
        words.extend(itertools.islice(supply, max(1, missing // 2)))
    return " ".join(words)


Run = Generator[None, None, Speed]
"""A run in slices of a few tokens. Others may run between slices; that time is not counted."""

_SLICE = 8


class Contender(ABC):
    """Evaluates a fresh prompt, then decodes ``n`` tokens: evaluates and samples ``n`` times."""

    @abstractmethod
    def run(self, prompt: str, tokens: list[int], n: int) -> Run:
        """One timed run; ``tokens`` is the tokenised prompt."""

    @abstractmethod
    def close(self) -> None:
        """Free the model."""


class Bridge(Contender):
    """This project, through its public interface, text in and text out.

    Attributes:
        weights: its llama.cpp model, if the backend is native. The other contenders borrow it, because two copies
            are at different addresses, and that alone changes speed by a tenth.
    """

    def __init__(self, backend: str, setting: Setting) -> None:
        self.llama = LlamaBridge(
            setting.model,
            backend=backend,
            params=ModelParams(
                n_ctx=setting.n_ctx, n_batch=setting.n_batch, n_threads=setting.n_threads
            ),
        )
        self.weights: Any = getattr(engine_of(self.llama), "_model", None)

    def run(self, prompt: str, tokens: list[int], n: int) -> Run:
        """Everything except prefill counts as decoding: tokenising, text assembly, bookkeeping."""
        greedy = SamplingParams(max_tokens=n, temperature=0)
        self.llama.session_reset()  # or the prompt would still be in the KV cache
        clock = time.perf_counter()
        stream = self.llama.generate_stream(prompt, sampling=greedy, chat=False)
        spent = 0.0
        for i, _ in enumerate(stream, start=1):
            if i % _SLICE == 0:
                spent += time.perf_counter() - clock
                yield
                clock = time.perf_counter()
        spent += time.perf_counter() - clock
        usage = stream.result.usage
        if usage.completion_tokens != n or usage.evaluated_tokens != len(tokens):
            raise RuntimeError(f"it did not do the expected work: {usage}")
        return Speed(len(tokens) / usage.prompt_seconds, n / (spent - usage.prompt_seconds))

    def close(self) -> None:
        """Free the model."""
        self.llama.close()


class RawLoop(Contender):
    """The tightest loop over llama.cpp in Python: two ctypes calls per token."""

    def __init__(self, setting: Setting, weights: Any) -> None:
        # Through the backend's module: importing llama_cpp directly would log to the terminal.
        from llama_bridge_native.library import lib

        self.lib: Any = lib
        options = lib.llama_context_default_params()
        options.n_ctx = setting.n_ctx
        options.n_batch = options.n_ubatch = setting.n_batch
        options.n_threads = options.n_threads_batch = setting.n_threads
        options.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_ENABLED
        options.n_seq_max = 1
        self.context: Any = lib.llama_init_from_model(weights, options)
        self._memory = lib.llama_get_memory(self.context)
        self._sampler = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        lib.llama_sampler_chain_add(self._sampler, lib.llama_sampler_init_greedy())
        self._n_batch = setting.n_batch

    def run(self, prompt: str, tokens: list[int], n: int) -> Run:
        """Nothing but llama_decode and llama_sampler_sample."""
        lib, context, sampler = self.lib, self.context, self._sampler
        lib.llama_memory_clear(self._memory, True)
        whole = (ctypes.c_int32 * len(tokens))(*tokens)
        pointer = ctypes.POINTER(ctypes.c_int32)
        clock = time.perf_counter()
        for at in range(0, len(tokens), self._n_batch):
            part = ctypes.cast(ctypes.byref(whole, 4 * at), pointer)
            size = min(self._n_batch, len(tokens) - at)
            lib.llama_decode(context, lib.llama_batch_get_one(part, size))
        prefill = time.perf_counter() - clock
        one = (ctypes.c_int32 * 1)()
        batch = lib.llama_batch_get_one(one, 1)
        decode, sample = lib.llama_decode, lib.llama_sampler_sample
        spent = 0.0
        for size in _slices(n):
            yield
            clock = time.perf_counter()
            for _ in range(size):
                one[0] = sample(sampler, context, -1)
                decode(context, batch)
            spent += time.perf_counter() - clock
        return Speed(len(tokens) / prefill, n / spent)

    def close(self) -> None:
        """Free context and sampler."""
        self.lib.llama_sampler_free(self._sampler)
        self.lib.llama_free(self.context)


class LlamaClass(Contender):
    """llama-cpp-python's own class, with its token loop: its text interface is even slower."""

    def __init__(self, setting: Setting, weights: Any) -> None:
        from llama_bridge_native.library import lib

        self.lib: Any = lib
        borrow = "llama_cpp.llama_cpp.llama_model_load_from_file"
        with mock.patch(borrow, return_value=weights):
            self.llama: Any = lib.Llama(
                os.fspath(setting.model),
                n_ctx=setting.n_ctx,
                n_batch=setting.n_batch,
                n_ubatch=setting.n_batch,
                n_threads=setting.n_threads,
                n_threads_batch=setting.n_threads,
                flash_attn=True,
                verbose=False,
            )

    def run(self, prompt: str, tokens: list[int], n: int) -> Run:
        """The first token is sampled from the prompt's logits; each later one costs an evaluation."""
        self.llama.reset()
        clock = time.perf_counter()
        drawn = self.llama.generate(tokens, temp=0.0, repeat_penalty=1.0)
        next(drawn)
        prefill = time.perf_counter() - clock
        spent = 0.0
        for size in _slices(n):
            yield
            clock = time.perf_counter()
            for _ in range(size):
                next(drawn)
            spent += time.perf_counter() - clock
        return Speed(len(tokens) / prefill, n / spent)

    def close(self) -> None:
        """Free the context; the weights are borrowed."""
        self.llama._model.model = None
        self.llama.close()


def _slices(n: int) -> Iterator[int]:
    for at in range(0, n, _SLICE):
        yield min(_SLICE, n - at)
