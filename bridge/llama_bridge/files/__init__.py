"""Session files: values to bytes and back. No engine, no conversation that is under way.

To be read in this order:

.. code-block:: text

    sequence.py         how llama.cpp's own sequence file begins
    format.py           the file format: llama.cpp's sequence, a manifest, a digest
    replacing.py        a file that takes another one's place whole or not at all
    manifest.py         what is recorded beside the KV cache, and a conversation made of it again
    compatibility.py    what a file must agree with, and why one is refused
    bare.py             a bare llama.cpp sequence file
    folder.py           a folder that keeps named sessions, written in the background
    folder_lock.py      its one owner
    bounds.py           how much it may hold
    locking.py          locks on open files
    copy_memory.py      memory for a copy of a KV cache on its way

May import what stands below it: engine (for its numbers), snapshot, models, chat and the ground floor.
"""
