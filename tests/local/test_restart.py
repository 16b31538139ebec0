"""Every kind of memory: saved, loaded in a new process, continued as if nothing had happened."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llama_bridge import LlamaBridge, ModelParams, SamplingParams
from tests.ledger import assert_likeliest, engine_of
from tools.random_model import write_model

LONG = "Once upon a time there was a little mouse in a small house by the river. "
CHILD = """
import json, sys
from llama_bridge import LlamaBridge, ModelParams, SamplingParams
model, session = sys.argv[1:]
params = SamplingParams(temperature=0, max_tokens=8)
with LlamaBridge(model, backend="native", params=ModelParams(n_ctx=1024)) as llama:
    info = llama.session_load(session)
    loaded = llama.session().tokens
    answer = llama.generate_continue(" and then", sampling=params, chat=False)
    tokens = llama.session().tokens
    llama.session_rewind()
    rewound = llama.session().tokens
    again = llama.generate_continue(" but", sampling=params, chat=False)
    print(json.dumps([loaded, answer.usage.cached_tokens, tokens, answer.usage.completion_tokens,
                      rewound, llama.session().tokens, again.usage.completion_tokens]))
"""


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma3", "mamba", "lfm2"])
@pytest.mark.parametrize("repeated", [1, 20])  # within the sliding window, and far beyond it
def test_a_new_process_goes_on_where_the_old_one_ended(
    architecture: str, repeated: int, tmp_path: Path
) -> None:
    model, session = tmp_path / "model.gguf", tmp_path / "a.session"
    write_model(model, architecture=architecture, seed=9)
    params = ModelParams(n_ctx=1024)
    with LlamaBridge(model, backend="native", params=params) as llama:
        llama.generate(LONG * repeated, sampling=SamplingParams(max_tokens=5), chat=False)
        before = list(llama.session().tokens)
        llama.session_save(session)
        run = [sys.executable, "-c", CHILD, str(model), str(session)]
        output = subprocess.run(run, check=True, capture_output=True, text=True).stdout
        loaded, cached, tokens, said, rewound, other, said_again = json.loads(output)
        assert loaded == rewound == before
        assert cached == len(before)
        assert tokens[: len(before)] == other[: len(before)] == before
        engine = engine_of(llama)
        assert_likeliest(engine, tokens[:-said], tokens[-said:])
        assert_likeliest(engine, other[:-said_again], other[-said_again:])
