"""What a page with llama-bridge is made of, and what serves it.

.. code-block:: text

    fetch.py    Pyodide, Node and pure wheels, each of one version, kept in the per-user cache
    site.py     a folder to be served: Pyodide, the wheels, the project's own wheel, and the page
    server.py   serves a folder as a page needs it
    browsers.py opens a page in Chromium or Firefox and tells what happens there; drive.mjs does it

    python -m tools.browser FOLDER...   lays out a site with what is in these folders, and serves it
"""
