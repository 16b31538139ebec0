"""A runtime over an engine: what turns an engine's tokens into answers and conversations.

Reads downwards in this order:

.. code-block:: text

    engine_backend.py    a backend that has an engine; makes the runtime over it
    local_runtime.py     answers requests; who may use the engine when
    pool.py              several conversations over one engine: which one has the KV cache
    keeper.py            conversations in the files of a folder
    restore.py           a session file taken over
    replay.py            its conversation evaluated again
    verify.py            a session file tried
    logit_check.py       its logits
    active.py            the conversation that has the KV cache: turns to tokens, answers into the conversation
    token_loop.py        one answer: prefill, then token by token
    ledger.py            which tokens the KV cache holds
    text_and_stops.py    bytes of tokens to text, up to a stop string
    cores.py             how many threads an engine here computes with

May import what stands below it: files, engine, runtime, models, chat and the ground floor. Knows no backend.
"""
