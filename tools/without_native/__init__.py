"""Tests the project without llama-cpp-python, as most people first have it.

.. code-block:: text

    environment.py   virtual environments in the per-user cache
    suite.py         runs the suite in one: ``make without-native``
    wheels.py        installs the wheel and runs its demo, under each Python on this machine: ``make wheels``
"""
