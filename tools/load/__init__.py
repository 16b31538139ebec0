"""Loads a server for some minutes, with clients that behave and clients that do not, and kills it twice.

.. code-block:: text

    __main__.py     the run: starts, kills, counts, judges
    program.py      a server in a process of its own, and its memory
    good.py         what clients ask, and what must come back
    bad.py          clients that leave, stall and send what they should not
"""
