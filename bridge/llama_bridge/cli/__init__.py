"""The command line.

.. code-block:: text

    app.py          the command group; turns each error into one line and an exit status
    terminal.py     output for people, pipes and scripts
    failures.py     errors in terms of the command line
    options.py      options that several commands share
    logs.py         the log on standard error
    wrapping.py     wraps words at the edge as they arrive
    streaming.py    shows an answer as it arrives; Ctrl-C stops it
    walkthrough.py  what the demo does and checks; demo.py shows it
    memory_table.py how much memory a model takes, for info
    bar.py          the bar of a download
    serving.py      what serve and app do, on a socket of listening.py
    window.py       opens a window for app; web_view.py is its process
    chat.py  desktop.py  run.py  serve.py  embed.py  models.py  doctor.py  info.py  verify.py
                    one command each

For ``chat`` alone:

.. code-block:: text

    talk.py           the conversation: messages in, answers out
    remembered.py     what was said: in the backend's sessions, or as messages
    chat_commands.py  what begins with a slash
    line_editor.py    reads what a person types; history.py keeps it for later chats
    typed_ahead.py    keys typed while the model answers

Needs the extra ``llama-bridge[cli]`` (click, rich, prompt_toolkit); nothing outside this package imports it.
"""
