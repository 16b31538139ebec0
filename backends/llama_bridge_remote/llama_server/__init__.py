"""llama.cpp's own server: asked in tokens, so that a conversation's next turn evaluates only what is new.

.. code-block:: text

    runtime.py          the runtime: prompts as tokens, slots that keep them. Start here
    facts.py            what the server and its model are; whether that is still so
    probe.py            what it can do, found by asking it
    vocabulary.py       texts to tokens and back, by the server
    spelling.py         messages to tokens, by the model's chat template, rendered here
    fields.py           settings and grammars as fields of requests
    reply.py            reads the events of an answer, and which tokens it has
    slot_file.py        session files: what was said, and the name of the server's own file

May import what is beside this room, and ``llama_bridge.local`` for turns and spelling.
"""
