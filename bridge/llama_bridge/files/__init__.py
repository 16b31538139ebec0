"""Session files: values to bytes and back. Knows no engine and no running conversation.

Read in this order:

.. code-block:: text

    sequence.py         how llama.cpp's own sequence file begins
    format.py           the file format: llama.cpp's sequence, a manifest, a digest
    replacing.py        replaces a file completely or not at all
    manifest.py         what is stored with the KV cache, and how a conversation is restored from it
    compatibility.py    what a file must match, and why it is refused
    bare.py             a bare llama.cpp sequence file
    folder.py           a folder that keeps named sessions, written in the background
    folder_lock.py      gives it one owner
    bounds.py           limits its size
    locking.py          locks on open files
    copy_memory.py      memory for copies of a KV cache

May import what is below it: engine (for its facts), snapshot, models, chat and the ground floor.
"""
