"""The suite on servers: ``python -m tests.remote.on_servers [ARGUMENTS OF PYTEST]``.

First on ``llama-bridge serve``, then on llama-server, with the demo model; then the commands on both. What a server lacks is skipped with the reason.
Other rooms are about what is on this machine: engines, files of sessions, models by name.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from .servers import llama_server

ROOMS = ("aio", "backends", "bridge", "chat")


def main(arguments: list[str]) -> int:
    """Returns the first exit status that is not 0."""
    rooms = [f"tests/{room}" for room in ROOMS]
    command = [sys.executable, "-m", "pytest", "--llama-backend", "remote", "-k", "remote"]
    command += [*rooms, *arguments]
    first = subprocess.run(command).returncode
    with (
        tempfile.TemporaryDirectory() as folder,
        llama_server(Path(folder, "slots"), n_ctx=4096) as server,
    ):
        second = subprocess.run(command, env={**os.environ, "LLAMA_BRIDGE_URL": server.url})
    commands = [sys.executable, "-m", "pytest", "tests/remote/test_command_line.py", *arguments]
    return first or second.returncode or subprocess.run(commands).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
