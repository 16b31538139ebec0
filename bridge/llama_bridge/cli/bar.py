"""The bar of a download: how much has arrived, how fast, how long it still takes."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ..progress import Progress as Step

__all__ = ["DownloadBar"]

_SPEED = 10.0
"""Seconds over which the speed is measured."""


class DownloadBar:
    """A bar on a terminal. Works from any thread."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("downloading"),
            BarColumn(bar_width=None),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
            console=console,
            speed_estimate_period=_SPEED,
            transient=True,
        )
        self._task = self._progress.add_task("download", total=None)
        self._before = 0
        self._progress.start()

    def show(self, step: Step) -> None:
        """Show how far it is."""
        if self._before == 0 and step.done:  # what an earlier try fetched has no speed
            self._progress.reset(self._task, total=step.total, completed=step.done)
        self._before = step.done
        self._progress.update(self._task, completed=step.done, total=step.total)

    def end(self) -> None:
        """Remove it."""
        self._progress.stop()
