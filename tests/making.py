"""Small random models that differ from one another in one thing."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

MakeModel = Callable[..., Path]


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """Writes a model, once for each set of ``write_model``'s arguments."""
    from tools.random_model import TINY, write_model  # numpy: not in a page

    folder = tmp_path_factory.mktemp("models")

    @cache
    def make(**changes: Any) -> Path:
        path = folder / f"{len(list(folder.iterdir()))}.gguf"
        arguments: dict[str, Any] = TINY | {"seed": 3} | changes
        write_model(path, **arguments)
        return path

    return make
