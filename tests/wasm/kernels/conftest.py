from __future__ import annotations

from collections.abc import Iterator

import pytest

from llama_bridge_wasm.abi import Guest
from llama_bridge_wasm.engine.byte_sums import FORMS


@pytest.fixture(params=range(len(FORMS)), ids=FORMS)
def byte_sums(request: pytest.FixtureRequest, guest: Guest) -> Iterator[int]:
    """Products of bytes are added up in this form."""
    form: int = request.param
    assert guest.call("lb_byte_sums", form) == form
    yield form
    guest.call("lb_byte_sums", 0)
