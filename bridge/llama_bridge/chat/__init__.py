"""Turning messages into a prompt.

.. code-block:: text

    template.py    a model's own chat template, rendered; nothing that a message spells becomes a control token
    stream.py      an answer while it is generated: words, thoughts, calls
    form.py        how a model is asked, and what reads its answer
    own_form.py    tools for a model whose template knows none
    strict.py      grammars of templates, as strict as the tools' schemas
    tools.py       tools: JSON schemas, or Python functions
    message.py     one message, and the check of a caller's messages
    module/        chat.wasm: llama.cpp's template engine in a sandbox

May import the ground floor, generation, grammar, stream and structured; ``module/`` on_wasmtime too.
"""
