"""Servers with OpenAI's interface: any of them, and ``llama-bridge serve``, which has more.

.. code-block:: text

    any_server.py       the runtime for any of them. Start here
    bridge_server.py    the runtime for ours: sessions by the ids of responses, all samplers, grammars, rerank
    branches.py         sessions by name, branches and undone turns, for ours
    response_file.py    session files of ours, which name its responses
    asking.py           what both do: chats, raw texts, embeddings
    probe.py            what a server can do, found by asking it for as little as possible
    spoken.py           an answer of a chat as one text, and its reader
    replies.py          reads the events of an answer
    fields.py           settings and messages as fields of requests
    shape.py            whether an answer follows the schema that a server was given

May import what is beside this room: ``answer``, ``client``, ``remote_runtime``, ``session_file``.
"""
