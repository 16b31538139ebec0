"""llama.wasm in the engine of the browser that Pyodide runs in. For a worker. In this order:

.. code-block:: text

    guest.py    the guest: memory, calls, closing
    threads.py  the guest's threads: workers over the same memory; thread.js is what runs in them
    stop.py     how the page stops a worker that computes

May import ``llama_bridge``, ``abi.py``, ``page.py`` and the modules of ``hosts``; nothing of wasmtime's.
"""
