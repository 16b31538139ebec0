"""How ``llama-bridge app`` begins and ends, with a program in place of the browser. The window itself: tests/browser."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

if sys.platform == "emscripten":
    pytest.skip("it starts processes", allow_module_level=True)
pytest.importorskip("uvicorn", reason="llama-bridge[serve] is not installed")

COMMAND = Path(sys.executable).with_name("llama-bridge")


class Place:
    """A folder with the only browser there is."""

    def __init__(self, folder: Path, browser: str) -> None:
        program = folder / "chromium"
        program.write_text(f"#!{sys.executable}\n{browser}\n")
        program.chmod(0o755)
        temporary = folder / "temporary"
        temporary.mkdir()
        self._folder, self.temporary = folder, temporary
        variables = {"PATH": str(folder), "TMPDIR": str(temporary), "PYTHONPATH": str(folder)}
        variables["BROWSER"] = shutil.which("true") or ""
        self._environment = {**os.environ, **variables}

    def app(self, model: str, **variables: str) -> subprocess.Popen[str]:
        command = [str(COMMAND), "app", model, "--conversations-dir", str(self._folder / "talks")]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=self._environment | variables, **pipes)  # type: ignore[call-overload, no-any-return]

    def nothing_is_left(self) -> bool:
        return not list(self.temporary.glob("llama-bridge-*"))


STAYS = """
import sys, time
from pathlib import Path
here = Path(sys.argv[0]).parent
(here / "began").touch()
time.sleep(60)
(here / "stayed").touch()
"""


STUCK = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN){STAYS}"
WEB_VIEW = """
import sys, time
from pathlib import Path
settings = {}
def create_window(*_, **__): pass
def start():
    Path(__file__).with_name("began").touch()
    time.sleep(60)
"""


def wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_window_is_there_before_the_model_and_leaves_with_it_if_that_fails(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path, STAYS)
    model = tmp_path / "model.gguf"
    os.mkfifo(model)  # whoever opens it waits
    with place.app(str(model)) as process:
        wait_for(tmp_path / "began")
        assert process.poll() is None
        model.unlink()
        model.write_text("nonsense")  # for those that come later
        process.terminate()
        assert process.wait(30) == 0, "somebody ended it"
    assert place.nothing_is_left()
    (tmp_path / "began").unlink()
    with place.app(str(model)) as process:
        _, words = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "not a GGUF file" in words
    assert not (tmp_path / "stayed").exists(), "the window was not waited for"
    assert place.nothing_is_left()


def test_a_window_that_is_closed_at_once_ends_all(tmp_path: Path) -> None:
    place = Place(tmp_path, "")
    with place.app("demo") as process:
        _, words = process.communicate(timeout=60)
    assert (process.returncode, words) == (0, "")
    assert place.nothing_is_left()


def test_where_the_window_cannot_open_the_usual_browser_does(tmp_path: Path) -> None:
    place = Place(tmp_path, "raise SystemExit(1)")  # as Chromium does for root
    with place.app("demo") as process:
        assert process.stderr is not None
        assert "Chatting in your browser" in process.stderr.readline()
        process.terminate()
        assert process.wait(30) == 0
    assert place.nothing_is_left()


LOST = """
import signal, weakref
from llama_bridge.cli.window import Window
class Thing: pass
def lose(_): signal.raise_signal(signal.SIGTERM)
told = []
with Window("http://127.0.0.1:9") as window:
    thing = Thing()
    gone = weakref.ref(thing, lose)
    del thing
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))  # now the server is there
    window.open()
assert told == [signal.SIGTERM], told
"""
CHANGED = """
import signal
from llama_bridge.cli.window import Window
with Window("http://127.0.0.1:9"):
    class Name:
        def __set_name__(self, *_): signal.raise_signal(signal.SIGTERM)
    class Thing:
        name = Name()
"""


def test_a_signal_that_python_loses_while_it_imports_ends_the_server_that_comes_after() -> None:
    """It came in a callback of a weak reference, where exceptions are told and forgotten, and the command stayed for ever."""
    done = subprocess.run([sys.executable, "-c", LOST], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "SystemExit" in done.stderr, "it was lost"


def test_a_signal_whose_exception_becomes_another_one_ends_in_peace() -> None:
    done = subprocess.run([sys.executable, "-c", CHANGED], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("number", "browser"), [("SIGTERM", STUCK), ("SIGHUP", STAYS)])
def test_while_the_model_is_loaded_whatever_ends_the_command_ends_its_window(
    tmp_path: Path, number: str, browser: str
) -> None:
    """SIGHUP is what a terminal sends that is closed. It left the window, and the file with the word that opens the server."""
    if not hasattr(signal, number):
        pytest.skip("Windows has no SIGHUP")
    place = Place(tmp_path, browser)
    model = tmp_path / "model.gguf"
    os.mkfifo(model)  # whoever opens it waits
    with place.app(str(model)) as process:
        wait_for(tmp_path / "began")
        process.send_signal(getattr(signal, number))
        _, words = process.communicate(timeout=30)
    assert (process.returncode, words) == (0, "")
    assert place.nothing_is_left()


def test_a_web_view_that_is_ended_is_followed_by_no_browser(tmp_path: Path) -> None:
    """It opened one with an address that nobody answered any more."""
    place = Place(tmp_path, "from pathlib import Path; Path(__file__).with_name('second').touch()")
    (tmp_path / "webview.py").write_text(WEB_VIEW)
    with place.app("demo") as process:
        wait_for(tmp_path / "began")
        process.terminate()
        assert process.wait(30) == 0
    time.sleep(0.3)
    assert not (tmp_path / "second").exists()
    assert place.nothing_is_left()


@pytest.mark.parametrize(
    "display", ["", ":9"]
)  # with one, webbrowser tries that Chromium once more
def test_where_no_browser_starts_it_says_what_to_open(tmp_path: Path, display: str) -> None:
    place = Place(tmp_path, "")
    (tmp_path / "chromium").write_text("#!/nowhere\n")
    with place.app("demo", BROWSER="false", DISPLAY=display) as process:
        assert process.stderr is not None
        words = process.stderr.readline()
        file = re.search(r"No browser starts here: open (\S+) in one", words)
        assert file is not None, words
        assert "#window=" in Path(file[1]).read_text()
        process.terminate()
        assert process.wait(30) == 0
    assert place.nothing_is_left()
