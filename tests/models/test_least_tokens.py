"""A text that is far too long is refused before its tokens are counted, whatever it consists of."""

from __future__ import annotations

import pytest

from llama_bridge import ContextOverflow, LlamaBridge


@pytest.mark.parametrize("one", ["a", " ", "\n", "\t", "é"])
def test_a_megabyte_is_not_tokenised(llama_backend: str, one: str) -> None:
    """White space counts, too: to count its tokens would hold up all other answers for seconds."""
    with LlamaBridge("demo", backend=llama_backend) as llama:
        with pytest.raises(ContextOverflow) as caught:
            llama.chat([{"role": "user", "content": one * 1_000_000}])
        assert caught.value.at_least
