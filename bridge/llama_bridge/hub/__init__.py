"""From a model's name to a file on this disk.

.. code-block:: text

    find.py          the way in: finds a model, or fetches it
    looking.py       reads the header of a model without fetching it
    beginning.py     the beginning of a file on a server, as a file
    patience.py      how long servers may take for what is only asked
    asking.py        asks the hub, if it may be asked
    fetching.py      a file of a repository into the hub's cache: once, checked, by one process
    address_cache.py the same for a plain address, into a cache of our own
    client.py        asks the hub, through huggingface_hub, which is an extra
    address.py       asks any other server, through the standard library
    transfer.py      receives a file: continues, counts, hashes, and never more than was promised
    of_all.py        tells of several files as of one
    answers.py       what a server's refusal means
    repository.py    which file of a repository is meant, and what else there is
    folders.py       what is in folders, as far as this user may read them
    cache.py         the folder that huggingface_hub and llama.cpp share
    dropped.py       a file that somebody has dropped, into our cache
    digests.py       sha256 of files, remembered
    shelf.py         all models on this disk
    unfinished.py    downloads that broke off
    removing.py      removes some of them
    ollama.py  lm_studio.py  llama_cpp.py
                     what these programs have on it; only read

May import files.locking, models, progress, checks, errors. Only :mod:`client` imports huggingface_hub.
"""
