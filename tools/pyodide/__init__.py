"""The wheel built, compiled and tried with Pyodide's own tools, without a compiler and without their downloads.

.. code-block:: text

    environment.py   what pyodide-build calls a cross-build environment, made from the npm package ``pyodide``
    python_cli.mjs   that environment's interpreter: Pyodide on Node, with this machine's files
    venv.py          the wheel, a ``pyodide venv`` with it, and the suite run in that

    python -m tools.pyodide    does it all: ``make pyodide``
"""
