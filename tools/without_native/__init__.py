"""The project where llama-cpp-python is not installed, as most people have it at first.

.. code-block:: text

    environment.py   virtual environments of the per-user cache
    suite.py         the suite, in one of them: ``make without-native``
    wheels.py        the wheel installed and its demo run, under each Python of this machine: ``make wheels``
"""
