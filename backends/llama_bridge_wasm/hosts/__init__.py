"""What runs llama.wasm. A host makes guests: instances that see one file and nothing else. Read in this order:

.. code-block:: text

    hosted.py          the life of a guest, the same on every host
    wasi.py            all that a guest sees of the outside: one file to read, a log to write
    linear_memory.py   the memory it imports, and how to run it without threads
    logs.py            llama.cpp's log
    wasmtime/          on a desktop or server
    browser/           in a page, beside Pyodide

The two folders are independent. All may import ``llama_bridge``, ``abi.py`` and ``page.py``, but no engine and no
store.

Another host, such as another runtime, gets a folder of its own here:

1. Subclass :class:`~.hosted.Hosted`: ``_run`` calls an export, ``failures`` are the host's own errors, ``_words`` makes
   one a line of text, ``_kill`` ends the guest's threads, ``close`` frees everything.
2. Give the instance its imports: ``world.imports()`` under the name :data:`~.wasi.WASI`, with the host's own
   ``clock_time_get`` and ``random_get``, and ``world.unknown`` for all others; the memory that ``find_memory``
   describes; ``lb_host.stop`` and ``lb_host.spawn``, which may return 0 and -1. Then call ``_begin()``.
3. Implement the rest of the protocol :class:`~..abi.Guest`: ``read``, ``write`` and ``fill`` raise BadPointer outside
   the guest's memory. Without threads use ``unshared(code)``.
4. Choose it in ``backend.py``, and import it there. ``tests/wasm`` then tests it.
"""
