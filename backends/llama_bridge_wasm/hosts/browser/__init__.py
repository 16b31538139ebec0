"""llama.wasm in the engine of the browser that runs Pyodide. For a worker. Read in this order:

.. code-block:: text

    guest.py    the guest: memory, calls, closing
    threads.py  the guest's threads: workers that share its memory and run thread.js
    stop.py     how the page stops a computing worker
    kept.py     a word that is kept from one visit to the next

May import ``llama_bridge``, ``abi.py``, ``page.py`` and the modules of ``hosts``; nothing of wasmtime.
"""
