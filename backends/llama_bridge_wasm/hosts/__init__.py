"""Where llama.wasm runs. A host makes guests: instances of it that see one file and nothing else. In this order:

.. code-block:: text

    hosted.py          what is the same everywhere: the life and death of a guest
    wasi.py            what a guest sees of the world: one file to read, a log to write
    linear_memory.py   what memory it asks for, and how to give it one without threads
    logs.py            what llama.cpp says
    wasmtime/          on a desktop or server
    browser/           in a page, beside Pyodide

The two folders know nothing of each other. All may import ``llama_bridge``, ``abi.py`` and ``page.py``; no engine and
no store.

A third place, another runtime say, takes a folder of its own here:

1. Subclass :class:`~.hosted.Hosted`: ``_run`` calls an export, ``failures`` are the host's own errors, ``_words`` puts
   one in a line, ``_kill`` ends the guest's threads, ``close`` gives all back.
2. Give the instance its imports: ``world.imports()`` under the name :data:`~.wasi.WASI`, with ``clock_time_get`` and
   ``random_get`` of the host's own, and ``world.unknown`` for any other; the memory that ``find_memory`` describes;
   ``lb_host.stop`` and ``lb_host.spawn``, which may answer 0 and -1. Then call ``_begin()``.
3. Implement the rest of the protocol :class:`~..abi.Guest`: ``read``, ``write`` and ``fill`` raise BadPointer outside of
   the guest's memory. Without threads take ``unshared(code)``.
4. Pick it in ``backend.py``, importing it there. ``tests/wasm`` is then its test.
"""
