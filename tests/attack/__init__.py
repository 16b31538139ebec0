"""Attacks on a whole bridge: ``python -m tests.attack`` (or ``make attack``).

Each attack tries one thing after the other, seeded, for so many seconds, and tells what it found: a conversation that
is torn or lost, somebody who waits for ever, an error that is none of ours, a foreign file that was touched.

.. code-block:: text

    runner.py        runs attacks, bounded in time, and counts
    interrupts.py    a KeyboardInterrupt at each step of each operation
    arguments.py     every public call with every wrong argument
    readers.py       threads that leave streams half read, and everything else at the same time
    company.py       many threads that do everything at once
    folders.py       folders of sessions with strange things in them
"""
