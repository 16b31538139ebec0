"""A model file: where it comes from, what is in it, whether an engine may see it.

To be read in this order:

.. code-block:: text

    source.py         found by path or name, checked, opened
    gguf.py           the header of a GGUF file, read and checked
    ggml_types.py     the types that a tensor, or a KV cache, may have
    fingerprint.py    what tells two models apart, by content
    preflight.py      what llama.cpp takes for granted, checked before it ends the process
    words.py          the same, of the vocabulary
    memory.py         what a KV cache takes, told from the header
    long_runs.py      texts that a tokenizer would not survive
    file_kinds.py     what a file is that was taken for a model or a session

May import the ground floor only: params, checks, errors.
"""
