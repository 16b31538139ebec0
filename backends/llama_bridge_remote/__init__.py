"""The remote backend: models on servers, over HTTP.

.. code-block:: text

    backend.py          probe and open: which server, which dialect, which model. Start here
    address.py          the server's address, and the model that is meant
    remote_runtime.py   what the runtimes share: answers under way, conversations
    session_file.py     session files, which name what the server keeps
    answer.py           an answer that a thread reads
    client.py           asks, again if need be; errors of httpx2 as ours
    connections.py      those of httpx2, kept or not
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
