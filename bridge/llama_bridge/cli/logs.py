"""The log on standard error: warnings that concern everyone, what a person waits for, or all of it with ``-v``."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, TextIO

import click

__all__ = ["verbose"]

_ALOUD = ("llama_bridge.bridge", "llama_bridge.registry")
"""Loggers whose warnings concern every user; an engine's are for those who ask."""
_WAITING = "llama_bridge.wasm.compile"
"""Tells why the first use takes seconds: for who sits at a terminal."""


if TYPE_CHECKING:  # generic in the stub alone
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler


class _Log(_StreamHandler):
    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        self.everything = False
        self.is_watched = sys.stderr.isatty()

    def format(self, record: logging.LogRecord) -> str:
        """The line for it."""
        alone = record.name == _WAITING and not self.everything
        return f"llama-bridge: {record.getMessage()}" if alone else super().format(record)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is shown."""
        aloud = record.levelno >= logging.WARNING and record.name in _ALOUD
        return self.everything or aloud or (self.is_watched and record.name == _WAITING)


def _open(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    # Called for the group and again for the command: -v may stand before or after its name.
    root = context.find_root()
    logger = logging.getLogger("llama_bridge")
    log = root.meta.get(__name__)
    if log is None:
        log = root.meta[__name__] = _Log()
        waiting = logging.getLogger(_WAITING)
        level, before = logger.level, waiting.level
        logger.addHandler(log)
        waiting.setLevel(logging.INFO)
        root.call_on_close(lambda: logger.removeHandler(log))
        root.call_on_close(lambda: logger.setLevel(level))
        root.call_on_close(lambda: waiting.setLevel(before))
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
    help="Show the log, the engine's included.",
)
