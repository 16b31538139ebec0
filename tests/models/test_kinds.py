"""Models that neither write text token by token nor embed are refused when they are loaded, and told what they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama_bridge import LlamaBridge, ModelLoadError
from tests.making import diffusion_model


@pytest.mark.requires_capability("tokens")
def test_a_diffusion_model_is_refused_as_one(llama_backend: str, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"a diffusion model \(llada\).*cannot generate text"):
        LlamaBridge(diffusion_model(tmp_path / "m.gguf"), backend=llama_backend)
