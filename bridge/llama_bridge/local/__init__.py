"""A runtime over an engine: turns an engine's tokens into answers and conversations.

Read in this order:

.. code-block:: text

    engine_backend.py    a backend with an engine; makes the runtime over it
    local_runtime.py     answers requests; decides who may use the engine when
    pool.py              several conversations over one engine, one of which has the KV cache
    keeper.py            conversations in the files of a folder
    restore.py           loads a session file
    replay.py            evaluates its conversation again
    verify.py            checks a session file
    logit_check.py       checks its logits
    active.py            the conversation that has the KV cache: turns to tokens, answers into the conversation
    embedding.py         texts to tokens and batches for embed and rerank
    token_loop.py        one answer: prefill, then token by token
    forced.py            tokens that a grammar leaves no choice about
    ledger.py            which tokens are in the KV cache
    text_and_stops.py    token bytes to text, up to a stop string
    cores.py             how many threads an engine uses here

May import what is below it: files, engine, runtime, models, chat and the ground floor. Knows no backend.
"""
