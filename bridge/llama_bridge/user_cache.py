"""Where this user's caches are. What lies there can be made or fetched again."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

__all__ = ["user_cache"]

_OURS = "llama-bridge"
_log = logging.getLogger(__name__)


def user_cache() -> Path | None:
    """The per-user cache folder of this system, or None if the user has none. It may not exist yet.

    ``XDG_CACHE_HOME`` counts on every system. A page has no such folder, and needs none.
    """
    if sys.platform == "emscripten":
        return None
    try:
        given = os.path.expanduser(os.environ.get("XDG_CACHE_HOME", ""))
        if os.path.isabs(given):
            return Path(given, _OURS)
        import platformdirs  # 5 ms

        base = platformdirs.user_cache_path(_OURS, appauthor=False, opinion=False)
    except (OSError, RuntimeError) as error:  # for example a container's user without a home
        _log.debug("there is no cache folder: %s", error)
        return None
    return base if base.is_absolute() else None
