"""A LlamaBridge on the fake backend, ready for the code under test."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path

from ...bridge import LlamaBridge
from ...capabilities import Capability
from ...engine import MemoryKind
from ...errors import BridgeError
from ...params import Pooling, SamplingParams
from ...progress import OnProgress
from .answers import Answers, Asked, echo
from .backend import FakeBackend
from .model import write_fake_model

__all__ = ["FakeLlama"]


class FakeLlama(LlamaBridge):
    """The real LlamaBridge on a :class:`FakeBackend`. It needs no model: it has its own, without weights.

    Args:
        answers, capabilities, lacks, memory, prefill_token_seconds, load_error: as in FakeBackend.
        model: a GGUF file whose chat template is used instead, such as ``"demo"``.
        n_ctx: tokens that the context holds; a token is a byte here. 0 gives 65,536.
        pooling: ``"rank"`` makes it a reranker, ``"none"`` a model that cannot embed; else ``embed`` gives vectors in which
            texts that share words are close.
        sampling, system, on_progress: as in LlamaBridge; without ``sampling``, answers are not cut off.
    """

    def __init__(
        self,
        answers: Answers = echo,
        *,
        capabilities: Capability | str | Iterable[str] | None = None,
        lacks: Capability | str | Iterable[str] = (),
        memory: MemoryKind = MemoryKind.DENSE,
        prefill_token_seconds: float = 0.0,
        load_error: BridgeError | None = None,
        model: str | os.PathLike[str] | None = None,
        n_ctx: int = 0,
        pooling: Pooling | None = None,
        sampling: SamplingParams | None = None,
        system: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self.fake = FakeBackend(
            answers,
            capabilities=capabilities,
            lacks=lacks,
            memory=memory,
            prefill_token_seconds=prefill_token_seconds,
            load_error=load_error,
        )
        folder = tempfile.mkdtemp(prefix="llama-bridge-fake-")
        self._remove_folder = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        try:
            super().__init__(
                write_fake_model(Path(folder, "fake.gguf")) if model is None else model,
                backend=self.fake,
                n_ctx=n_ctx,
                pooling=pooling,
                on_progress=on_progress,
                sampling=sampling or SamplingParams(max_tokens=None, temperature=0),
                system=system,
            )
        except BaseException:
            self._remove_folder()
            raise

    @property
    def asked(self) -> list[Asked]:
        """What each answer so far was conditioned on, in order."""
        return self.fake.asked

    def close(self) -> None:
        """See :meth:`LlamaBridge.close`."""
        super().close()
        self._remove_folder()
