"""For asyncio and trio: the same calls, which wait without blocking the event loop.

Read in this order:

.. code-block:: text

    bridge.py           AsyncLlamaBridge
    conversation.py     the calls of a conversation, and AsyncSession
    twins.py            makes an asynchronous call of one of the library's own: a line each
    stream.py           AsyncStream, an answer in progress
    ways.py             how a task waits for work
    threads.py          the work is done in threads
    slices.py           or, in a page, which has no threads, in slices between which the event loop runs

May import the bridge and what is below it. It adds no rules of its own about who may use the engine when: the runtime has
them.
"""

from .bridge import AsyncLlamaBridge
from .conversation import AsyncSession
from .stream import AsyncStream

__all__ = ["AsyncLlamaBridge", "AsyncSession", "AsyncStream"]
