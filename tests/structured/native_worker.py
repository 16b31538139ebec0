"""Asks llama.cpp itself about grammars, in a process of its own: a grammar may end it.

Reads one JSON line ``{"grammar": ..., "texts": [...]}`` after the other, and answers each with ``{"loaded": bool,
"accepted": [bool, ...]}``: whether llama.cpp takes the grammar, and whether each text, token by token, up to an end.
"""

from __future__ import annotations

import ctypes
import json
import math
import sys
from typing import Any

import llama_cpp as lib

_QUIET: Any = lib.llama_log_callback(lambda level, text, data: None)


def main() -> None:
    lib.llama_log_set(_QUIET, None)
    params = lib.llama_model_default_params()
    params.vocab_only = True
    model: Any = lib.llama_model_load_from_file(sys.argv[1].encode(), params)
    vocab: Any = lib.llama_model_get_vocab(model)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(_answer(vocab, asked["grammar"], asked["texts"])), flush=True)


def _answer(vocab: Any, grammar: str, texts: list[str]) -> dict[str, Any]:
    accepted: list[bool] = []
    for text in texts:
        sampler: Any = lib.llama_sampler_init_grammar(vocab, grammar.encode(), b"root")
        if not sampler:
            return {"loaded": False, "accepted": []}
        accepted.append(_accepts(vocab, sampler, text))
        lib.llama_sampler_free(sampler)
    return {"loaded": True, "accepted": accepted}


def _accepts(vocab: Any, sampler: Any, text: str) -> bool:
    data = text.encode()
    tokens = (lib.llama_token * (len(data) + 8))()
    count = lib.llama_tokenize(vocab, data, len(data), tokens, len(tokens), False, False)
    for token in tokens[:count]:
        if not _allows(sampler, token):
            return False
        lib.llama_sampler_accept(sampler, token)
    return _allows(sampler, lib.llama_vocab_eos(vocab))


def _allows(sampler: Any, token: int) -> bool:
    one = (lib.llama_token_data * 1)(lib.llama_token_data(token, 1.0, 0.0))
    array = lib.llama_token_data_array(one, 1, -1, False)
    lib.llama_sampler_apply(sampler, ctypes.byref(array))
    return not math.isinf(one[0].logit)


if __name__ == "__main__":
    main()
