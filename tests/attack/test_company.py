"""Threads that do everything at once, for some seconds; ``python -m tests.attack.company`` goes on for longer."""

from __future__ import annotations

import pytest

from .company import chaos


@pytest.mark.slow
@pytest.mark.parametrize(("n_parallel", "n_ctx"), [(1, 1024), (4, 4096), (4, 512), (6, 256)])
def test_many_threads_do_everything_at_once(
    llama_backend: str, n_parallel: int, n_ctx: int
) -> None:
    problems, done = chaos(llama_backend, 2, n_parallel=n_parallel, n_ctx=n_ctx)
    assert problems == []
    assert done.total() > 20
