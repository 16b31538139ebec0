"""Messages to a prompt.

.. code-block:: text

    template.py    a model's own chat template, rendered in a sandbox; messages and their checks

May import the ground floor only: checks, errors.
"""
