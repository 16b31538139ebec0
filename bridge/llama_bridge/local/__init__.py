"""A runtime over an engine: turns an engine's tokens into answers and conversations.

Read in this order:

.. code-block:: text

    engine_backend.py    a backend with an engine; makes the runtime over it
    local_runtime.py     answers requests
    scheduler.py         decides who may use the engine when
    company.py           answers computed together, a batch for each step
    pace.py              how much of a prompt a step may have beside answers
    spelling.py          messages and texts to tokens
    turn.py              what a request appends to a conversation
    pool.py              several conversations over one engine; some have a seat, a sequence in the KV cache
    running_turn.py      a turn in progress: answers into the conversation
    active.py            a conversation that has a seat
    token_loop.py        one answer: prefill, then token by token
    guesses.py           how many tokens to guess, and which
    lookup.py            where the conversation said the same before
    forced.py            tokens that a grammar leaves no choice about
    ledger.py            which tokens are in the KV cache
    text_and_stops.py    token bytes to text, up to a stop string
    keeper.py            conversations in the files of a folder
    restore.py           loads a session file
    replay.py            evaluates its conversation again
    verify.py            checks a session file
    logit_check.py       checks its logits
    embedding.py         texts to tokens and batches for embed and rerank
    cores.py             how many threads an engine uses here

May import what is below it: files, engine, runtime, models, chat and the ground floor. Knows no backend.
"""
