"""Hostile session files: ``python -m tests.fuzz --count 100000`` (or ``make fuzz``).

Valid sessions of every kind of memory are mutated and loaded in a child process, one after another. None may
crash it, hang it, make it grow, raise what is no :class:`~llama_bridge.BridgeError`, change the live session, or
be accepted and then answer with something else than its own token ledger.

Plain seeded mutation, structure included: the same ``--seed`` gives the same files, ``--first N --count 1`` one of
them again, and a tree of JSON values needs no more than a walk to a random place. Hypothesis would add shrinking,
of files that differ from a valid one in one to three places as it is.
"""
