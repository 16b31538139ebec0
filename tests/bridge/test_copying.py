"""What owns an engine is neither copied nor pickled: a copy that is closed would close the original."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from llama_bridge import InvalidInput
from llama_bridge.testing import FakeLlama
from tests.ledger import engine_of


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_copies_are_refused_and_the_original_lives(duplicate: Callable[[object], object]) -> None:
    with FakeLlama() as llama:
        stream = llama.generate_stream("x")
        for owner in (
            llama,
            llama.session(),
            llama.session("a"),
            stream,
            engine_of(llama),
            llama._shared.runtime,
        ):
            with pytest.raises(InvalidInput, match=r"cannot be copied or pickled"):
                duplicate(owner)
        assert stream.result.text
        assert llama.generate("still here").text
