"""A model file: where it comes from, what is in it, whether an engine may see it.

To be read in this order:

.. code-block:: text

    source.py         found by path or name, checked, opened
    gguf.py           the header of a GGUF file, read and checked
    fingerprint.py    what tells two models apart, by content
    preflight.py      what llama.cpp takes for granted, checked before it ends the process
    memory.py         what a KV cache takes, told from the header
    file_kinds.py     what a file is that was taken for a model or a session

May import the ground floor only: params, checks, errors.
"""
