"""Pictures of a window, for the documentation."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .driver import Driver

__all__ = ["take_picture"]


def take_picture(driver: Driver, path: Path) -> None:
    """Take a picture of the window, and look whether there is something on it."""
    image_grab = pytest.importorskip("PIL.ImageGrab", reason="no Pillow: pip install pillow")
    root = driver.root
    root.lift()
    root.update()
    left, top = root.winfo_rootx(), root.winfo_rooty()
    box = (left, top, left + root.winfo_width(), top + root.winfo_height())
    picture = image_grab.grab(bbox=box, xdisplay=os.environ.get("DISPLAY"))
    picture.save(path)
    assert len(picture.getcolors(1 << 16) or range(1 << 16)) > 20, "there is nothing to be seen"
