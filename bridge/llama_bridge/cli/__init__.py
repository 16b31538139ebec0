"""The command line.

.. code-block:: text

    app.py          the command group; every error becomes one line and an exit status
    terminal.py     where output goes: people, pipes, scripts
    failures.py     errors in the words of someone at a shell
    options.py      options that several commands share
    logs.py         the log on standard error
    streaming.py    an answer shown while it comes, stopped by Ctrl-C
    walkthrough.py  what the demo does and checks; demo.py shows it
    chat.py  run.py  doctor.py  info.py  verify.py
                    one command each

Needs the extra ``llama-bridge[cli]`` (click, rich); nothing outside this package imports it.
"""
