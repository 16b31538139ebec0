"""Tests a fleet on Ray Serve, in a virtual environment that has Ray (half a gigabyte, kept in the per-user cache).

.. code-block:: text

    __main__.py   types and tests: ``make fleet``
"""
