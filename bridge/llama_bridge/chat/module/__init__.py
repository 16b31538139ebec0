"""chat.wasm: llama.cpp's chat templates and parsers, in a sandbox. Every backend uses it. Read in this order:

.. code-block:: text

    guest.py          one template: renders messages, reads answers
    host.py           what runs an instance: the interface, and where chat.wasm is
    wasmtime_host.py  on a desktop
    deadline.py       ends what takes too long there
    browser_host.py   in a page

The repository's ``wasm/README.md`` says how chat.wasm is built. May import the ground floor and ``on_wasmtime`` only.
"""
