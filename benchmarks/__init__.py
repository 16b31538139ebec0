"""Measures llama-bridge against what it is built on, on the machine it runs on: ``python -m benchmarks``.

.. code-block:: text

    __main__.py     options; which sections run
    models.py       the models that are measured
    speed.py        prefill and decode, against the raw llama.cpp loop and llama-cpp-python's Llama
    kernels.py      products in llama.wasm, against ggml's own kernels
    turns.py        time to first token: a continued turn against a fresh prompt
    sessions.py     save, load, size, against plain writes and reads
    restart.py      the first load in a new process
    startup.py      what an import costs
    memory.py       peak memory of a process
    contenders.py   the engines that race each other
    measure.py      rounds in alternation, medians, ratios
    report.py       tables, bounds, JSON

Machines are noisy and get warm, so nothing is compared with a number from another time: contenders run in
alternation, in another order each round, and ratios are taken within a round.
"""
