"""What llama.cpp says of a model that it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama_bridge import LlamaBridge, ModelLoadError
from tests.gguf_editing import edited_model


def test_a_reason_quotes_no_megabyte_of_the_file(llama_backend: str, tmp_path: Path) -> None:
    if llama_backend == "fake":
        pytest.skip("needs llama.cpp")
    path = edited_model(
        tmp_path / "m.gguf",
        edit=lambda model: model.set("tokenizer.ggml.pre", b"odd" * 300_000, 8),
    )
    with pytest.raises(ModelLoadError, match=r"unknown pre-tokenizer type: 'oddodd.*…") as caught:
        LlamaBridge(path, backend=llama_backend)
    assert len(str(caught.value)) < 3000
