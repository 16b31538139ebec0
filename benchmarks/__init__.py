"""Measures llama-bridge against what it is built on, on this machine: ``python -m benchmarks``.

.. code-block:: text

    __main__.py     options, and which sections run
    models.py       the measured models
    speed.py        prefill and decode, against the raw llama.cpp loop and llama-cpp-python's Llama
    kernels.py      products in llama.wasm, against ggml's own kernels
    chats.py        chat.wasm: rendering templates, reading answers
    embeddings.py   embeddings and reranking, against raw llama.cpp (raw_embedding.py)
    remote.py       the remote backend, against a bare HTTP client
    turns.py        time to first token: a continued turn against a fresh prompt
    sessions.py     save, load, size, against plain writes and reads
    restart.py      the first load in a new process
    startup.py      the cost of an import
    fleet.py        moves between replicas, and what a chosen one has of the past
    fleet_sizes.py  what a fleet for many people takes, from a simulation (fleet_simulation.py)
    memory.py       peak memory of a process
    contenders.py   the engines that are compared
    measure.py      alternating rounds, medians, ratios
    report.py       tables, bounds, JSON

Machines are noisy and get warm, so numbers from different times are not compared. Contenders take turns, in another
order each round, and ratios are taken within a round.
"""
