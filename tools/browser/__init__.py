"""Lays out a page with llama-bridge, and serves it.

.. code-block:: text

    fetch.py    Pyodide, Node and pure wheels, in pinned versions, kept in the per-user cache
    site.py     lays out a folder to serve: Pyodide, the wheels, the project's own wheel, and the page
    server.py   serves a folder in the way that a page needs
    browsers.py opens a page in Chromium or Firefox and reports what happens, by means of drive.mjs

    python -m tools.browser FOLDER...   lays out a site from these folders, and serves it
"""
