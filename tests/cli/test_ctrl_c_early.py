"""Ctrl-C while the command is still being imported: exit status 130 and not a word."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.cli.screens import SECONDS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

PRESSES = """
import os, signal, sys

class Presses:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Presses())
"""
MODULES = (
    "llama_bridge",
    "llama_bridge.bridge",
    "llama_bridge.runtime",
    "llama_bridge.cli",
    "click",
    "llama_bridge.cli.app",
    "rich.console",
    "llama_bridge.cli.verify",
)


def pressed(folder: Path, module: str, *command: str) -> tuple[int, bytes]:
    """Run a command that gets a SIGINT when it begins to import a module; gives status and standard error."""
    (folder / "sitecustomize.py").write_text(PRESSES.format(module=module))
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def program() -> str:
    """The installed command."""
    found = shutil.which("llama-bridge", path=sysconfig.get_path("scripts"))
    if found is None:
        pytest.skip("the command is not installed in this environment")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_ctrl_c_during_the_imports_is_a_status(program: str, module: str, tmp_path: Path) -> None:
    assert pressed(tmp_path, module, program, "doctor") == (130, b"")


@pytest.mark.parametrize("module", MODULES[3:])
def test_and_so_it_is_with_python_m_once_the_library_is_imported(
    module: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "llama_bridge", "doctor"]
    assert pressed(tmp_path, module, *command) == (130, b"")


def test_where_ctrl_c_is_ignored_it_stays_ignored(program: str, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:  # as in a background job of a shell, which inherits this
        status, said = pressed(tmp_path, "llama_bridge.bridge", program, "--version")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (status, said[:12]) == (0, b"llama-bridge")
