"""Builds, compiles and tests the wheel with Pyodide's own tools, without a compiler and without their downloads.

.. code-block:: text

    environment.py   a cross-build environment for pyodide-build, made from the npm package ``pyodide``
    python_cli.mjs   its interpreter: Pyodide on Node, with this machine's files
    venv.py          builds the wheel, installs it in a ``pyodide venv``, runs the suite there

    python -m tools.pyodide    does it all, and runs the suite in browsers too: ``make pyodide``
"""
