"""llama.wasm on wasmtime. Read in this order:

.. code-block:: text

    guest.py            the guest: memory, calls, closing
    instance.py         an instance in its own store, and cheap calls into it
    threads.py          the guest's threads: more instances over the same memory
    address_space.py    checks that there is address space for it
    module.py           llama.wasm as machine code
    compiled_cache.py   keeps machine code between runs

The only package that imports ``wasmtime``. It may also import ``llama_bridge``, ``abi.py`` and the modules of ``hosts``,
but nothing of the browser.
"""
