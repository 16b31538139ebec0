"""A fleet is tested without Ray here; ``test_on_ray.py`` runs where Ray is: ``make fleet``."""

from __future__ import annotations

import importlib.util
import sys

collect_ignore_glob: list[str] = []
if sys.platform == "emscripten":
    collect_ignore_glob = ["test_*.py"]
elif importlib.util.find_spec("ray") is None:
    collect_ignore_glob = ["test_on_ray*.py"]
