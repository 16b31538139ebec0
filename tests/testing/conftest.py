"""What the tests of the plugin share."""

from __future__ import annotations

import pytest

from llama_bridge.user_cache import user_cache


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytester gives each run a home of its own. Without this, each would compile chat.wasm anew, for seconds."""
    if _CACHE is not None:  # a page has none
        monkeypatch.setenv("XDG_CACHE_HOME", str(_CACHE.parent))


_CACHE = user_cache()
