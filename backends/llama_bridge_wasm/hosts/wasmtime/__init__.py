"""llama.wasm on wasmtime. Read in this order:

.. code-block:: text

    guest.py            the guest: memory, calls, closing
    instance.py         an instance in its own store
    threads.py          the guest's threads: more instances over the same memory
    address_space.py    checks that there is address space for it
    module.py           llama.wasm as machine code

Of this package, only these files import ``wasmtime``. They may also import ``llama_bridge``, ``abi.py`` and the modules
of ``hosts``, but nothing of the browser.
"""
