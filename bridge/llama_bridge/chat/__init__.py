"""Turning messages into a prompt.

.. code-block:: text

    template.py    a model's own chat template, rendered; nothing that a message spells becomes a control token
    message.py     one message, and the check of a caller's messages
    module/        chat.wasm: llama.cpp's template engine in a sandbox

May import the ground floor only: prompt, checks, errors, and on_wasmtime in ``module/``.
"""
