"""The command line.

.. code-block:: text

    app.py          the command group; every error becomes one line and an exit status
    terminal.py     where output goes: people, pipes, scripts
    failures.py     errors in the words of someone at a shell
    options.py      options that several commands share
    logs.py         the log on standard error
    wrapping.py     words wrapped at the edge while they come
    streaming.py    an answer shown while it comes, stopped by Ctrl-C
    walkthrough.py  what the demo does and checks; demo.py shows it
    chat.py  run.py  doctor.py  info.py  verify.py
                    one command each

For ``chat`` alone:

.. code-block:: text

    talk.py           the conversation: messages in, answers out
    chat_commands.py  what begins with a slash
    line_editor.py    what a person types; history.py keeps it for later chats
    typed_ahead.py    keys that come while the model talks

Needs the extra ``llama-bridge[cli]`` (click, rich, prompt_toolkit); nothing outside this package imports it.
"""
