"""The server: a model's answers over HTTP, in the shapes that clients of OpenAI know.

.. code-block:: text

    app.py              the ASGI application: which address is answered by what
    running.py          runs it with uvicorn; protocol.py bounds how long a client may take
    settings.py         what its owner decides
    guard.py            who may ask, and how much: Host, Origin, key, size, time
    observing.py        the log, and the ids of requests
    metrics.py          /metrics: what the server has done
    server.py           what all requests share
    served.py           the models, by the names that requests give; shelf.py has several, current_model.py one
                        that another can replace
    front_page.py       /: the chat application, built from app/ into page/
    about_model.py      /app/about: what a model can do here, and why it cannot do the rest
    window.py           what only a window of its own may ask for
    conversations.py    what it keeps for that; library.py: models that come, go and replace each other
    session_files.py    conversations with their KV caches, as files
    steps.py            tells how far something is
    model_list.py       /health, /v1/models and /metrics
    chat_completions.py /v1/chat/completions
    chat_request.py     what such a request asks for
    completions.py      /v1/completions
    embeddings.py       /v1/embeddings and /v1/rerank
    responses.py        /v1/responses: a response's id is a session
    response_request.py what such a request asks for; response_items.py reads what was said
    response_record.py  a response as clients get it; response_events.py while it is made
    kept_responses.py   those that later requests go on from
    response_store.py   keeps them for one server; shared_responses.py for a fleet
    shared_store.py     a folder that a whole fleet sees; object_store.py a bucket; stores.py opens either
    fleet/              several servers; ray.py and ray_router.py run them on Ray Serve
    sampling_fields.py  how tokens are drawn, as a request says it
    wording.py          what an answer cost and how it ended, in OpenAI's words
    answering.py        answers that tasks read; a client that leaves ends its own
    fields.py           reads a request's fields, and names the one that is wrong
    refusals.py         errors in OpenAI's shape

Needs the extra ``llama-bridge[serve]``. May import everything but the command line, which imports it.
"""

from .app import app
from .settings import ServerSettings

__all__ = ["ServerSettings", "app"]
