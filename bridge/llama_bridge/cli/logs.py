"""The log on standard error: warnings that concern every user, or everything with ``-v``."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, TextIO

import click

__all__ = ["verbose"]

_ALOUD = ("llama_bridge.bridge", "llama_bridge.registry")
"""Loggers whose warnings concern every user. Those of an engine are shown only on request."""

if TYPE_CHECKING:  # generic in the stub alone
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler


class _Log(_StreamHandler):
    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        self.everything = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is shown."""
        return self.everything or (record.levelno >= logging.WARNING and record.name in _ALOUD)


def _open(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    # Called for the group and again for the command: -v may come before or after its name.
    root = context.find_root()
    logger = logging.getLogger("llama_bridge")
    log = root.meta.get(__name__)
    if log is None:
        log = root.meta[__name__] = _Log()
        level = logger.level
        logger.addHandler(log)
        root.call_on_close(lambda: logger.removeHandler(log))
        root.call_on_close(lambda: logger.setLevel(level))
    if wanted:
        log.everything = True
        logger.setLevel(logging.DEBUG)


verbose = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_open,
    help="Show the log, including the engine's.",
)
