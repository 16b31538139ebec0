"""Messages to a prompt.

.. code-block:: text

    template.py    a model's own chat template, rendered
    sandbox.py     Jinja without a way out, bounded in time and in what it builds
    message.py     one message, and the check of what callers give for one

May import the ground floor only: prompt, checks, errors.
"""
