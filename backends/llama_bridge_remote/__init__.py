"""The remote backend: models on servers, over HTTP.

.. code-block:: text

    backend.py          probe and open: which server, which dialect, which model. Start here
    address.py          the server's address, and the model that is meant
    remote_runtime.py   what the runtimes share: answers under way, conversations
    session_file.py     session files, which name what the server keeps
    answer.py           an answer, read beside its reader
    client.py           asks, again if need be
    wire.py             the contract of what carries requests
    connections.py      on a desktop: httpx2, connections kept or not
    fetching.py         in a page: the browser's ``fetch``
    waiting.py, page.py     work beside its reader: a thread, or in a page a task
    events.py           server-sent events
    token_logprobs.py   how probable tokens were, as servers write it
    refusals.py         servers' errors as ours
    vector_calls.py     vectors and scores, the same on all servers
    llama_server/       llama.cpp's own server
    openai/             servers with OpenAI's interface, and ``llama-bridge serve``

May import ``llama_bridge``.
"""

from .backend import BACKEND, RemoteBackend

__all__ = ["BACKEND", "RemoteBackend"]
