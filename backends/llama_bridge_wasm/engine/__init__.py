"""The engine contract over a guest, whatever hosts it. To be read in this order:

.. code-block:: text

    wasm_engine.py  WasmEngine: what llama_bridge calls
    calls.py        whose turn it is to call into the guest, and what a status means
    vocabulary.py   text to tokens and back, from any thread
    loading.py      a model into a guest, or the reason why not
    reading.py      how far that is
    sampler.py      settings of a sampler as the guest takes them
    fit.py          whether it can fit at all, told from its header
    marshal.py      arguments and results through guest memory

May import ``llama_bridge`` and ``abi.py``: no host, no store, nothing of wasmtime's or a browser's.
"""
