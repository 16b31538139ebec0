"""The engine contract on top of a guest, for any host. Read in this order:

.. code-block:: text

    wasm_engine.py  WasmEngine: what llama_bridge calls
    sequence.py     WasmSequence: one sequence in its KV cache; the engine is the first one itself
    calls.py        who may call into the guest, and what a status means
    adapters.py     LoRA adapters that the guest holds
    embedder.py     embeddings, batch by batch
    vocabulary.py   text to tokens and back, from any thread
    byte_sums.py    which form of the kernels is faster here
    loading.py      loads a model into a guest, or says why it cannot
    reading.py      progress of a load
    sampler.py      sampler settings in the guest's form
    lazy_grammar.py
                    waits for the trigger of a grammar
    fit.py          whether a model can fit at all, from its header
    plans.py        room for llama.cpp's plan of a computation
    marshal.py      arguments and results through guest memory

May import ``llama_bridge`` and ``abi.py``, but no host, no store, and nothing of wasmtime or a browser.
"""
