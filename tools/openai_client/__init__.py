"""The official JavaScript client of OpenAI's interface asks a real server at every address, whole and streamed.

.. code-block:: text

    __main__.py          fetches the client, starts a server of each kind of model, runs the script
    every_endpoint.mjs   what is asked, and what must come
"""
