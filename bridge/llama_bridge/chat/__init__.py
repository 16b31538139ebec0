"""Turning messages into a prompt.

.. code-block:: text

    template.py    a model's own chat template, rendered
    sandbox.py     Jinja in a sandbox, with limits on time and output
    message.py     one message, and the check of a caller's messages

May import the ground floor only: prompt, checks, errors.
"""
