"""examples/desktop_chat.py, driven on a virtual screen: real backends for the flow, the fake for trouble."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest

if not os.environ.get("CI"):  # there a Python without Tk is an error
    pytest.importorskip("tkinter", reason="no tkinter; on Debian: apt-get install python3-tk")

import tkinter as tk
from tkinter import filedialog

from llama_bridge import ClosedError
from llama_bridge.models.source import open_model
from llama_bridge.testing import FakeAnswer, FakeBackend

from .conftest import SCRIPT, OpenWindow
from .driver import Driver
from .pictures import take_picture

pytestmark = pytest.mark.usefixtures("tk_is_collected_here")

SLOW = FakeAnswer("a slow answer", token_seconds=60)


def choose(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    """What a person picks in the dialogs of a window that is opened after this, one after the other."""
    left = list(paths)

    def pick() -> str:
        return str(left.pop(0) if len(left) > 1 else left[0])

    monkeypatch.setattr(filedialog, "asksaveasfilename", pick)
    monkeypatch.setattr(filedialog, "askopenfilename", pick)


def test_it_is_short() -> None:
    assert len(SCRIPT.read_text().splitlines()) < 300


def test_without_a_screen_it_says_so() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "DISPLAY"}
    done = subprocess.run(
        [sys.executable, SCRIPT], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.startswith("There is no screen for a window (")
    assert "Traceback" not in done.stderr


def test_a_conversation_on_every_backend(open_window: OpenWindow, llama_backend: str) -> None:
    driver = open_window(llama_backend)
    assert driver.window.about["text"].startswith(
        f"llama-bridge demo on the {llama_backend} backend"
    )
    driver.ask_and_wait("Hello!")
    assert driver.text.startswith("You\nHello!\nModel\n")
    assert driver.status.startswith("Done (stop): 0 cached + ")
    assert driver.status.endswith(" tokens/s")
    driver.press_and_wait("New")
    assert (driver.text, driver.status) == ("", "A new conversation")


def test_what_was_said_is_remembered_until_new_on_every_backend(
    open_window: OpenWindow, llama_backend: str
) -> None:
    driver = open_window(llama_backend)
    driver.ask_and_wait("Hello! My name is Zorblax.")
    driver.ask_and_wait("What is my name?")
    assert "Zorblax" in driver.text.rpartition("Model\n")[2]
    assert cached_tokens(driver) > 10
    driver.press_and_wait("New")
    driver.ask_and_wait("What is my name?")
    assert "Zorblax" not in driver.text


def cached_tokens(driver: Driver) -> int:
    found = re.match(r"Done \(stop\): (\d+) cached \+ \d+ evaluated tokens", driver.status)
    assert found is not None, driver.status
    return int(found[1])


@pytest.mark.requires_capability("kv_continuation", "session_persistence")
def test_a_conversation_goes_on_is_saved_and_opened_again(
    open_window: OpenWindow,
    llama_backend: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    choose(monkeypatch, tmp_path / "chat.session")
    driver = open_window(llama_backend)
    driver.ask_and_wait("Hello! My name is Zanora.")
    driver.ask_and_wait("What is my name?")
    assert cached_tokens(driver) > 0
    said = driver.text
    driver.press_and_wait("Save")
    assert driver.status.startswith("Saved ")
    assert driver.status.endswith(" to chat.session")

    again = open_window(llama_backend)
    again.press_and_wait("Open")
    assert again.status.startswith("Opened ")
    assert again.text == said
    again.ask_and_wait("What is my name?")
    assert "Zanora" in again.text.rpartition("Model\n")[2]
    assert cached_tokens(again) > 0


@pytest.mark.lacks_capability("session_persistence")
def test_what_the_backend_lacks_is_greyed_out_and_the_reason_stands_there(
    open_window: OpenWindow, llama_backend: str
) -> None:
    driver = open_window(llama_backend)
    assert driver.enabled("Send")
    assert driver.enabled("New")
    assert not driver.enabled("Save")
    assert not driver.enabled("Open")
    why = driver.window.why
    assert why["text"].startswith("No Save, no Open: session_persistence is not ")
    assert why.winfo_viewable()


@pytest.mark.pictures
def test_what_the_window_looks_like(
    open_window: OpenWindow, llama_backend: str, pictures: Path
) -> None:
    driver = open_window(llama_backend)
    driver.ask_and_wait("Hello! My name is Zanora.")
    driver.ask_and_wait("What is my name?")
    take_picture(driver, pictures / f"desktop-{llama_backend}.png")


def test_text_arrives_while_it_is_generated(open_window: OpenWindow) -> None:
    driver = open_window(FakeBackend(SLOW))
    driver.ask("hi")
    driver.until(lambda: driver.text.endswith("Model\na"))
    assert driver.window.busy
    assert driver.status == "Answering…  Esc stops"


@pytest.mark.parametrize(
    ("how", "lacks"), [("Stop", ()), ("<Escape>", ()), ("Stop", "kv_continuation")]
)
def test_stop_ends_an_answer_at_once_and_what_was_said_stays(
    open_window: OpenWindow, how: str, lacks: str
) -> None:
    backend = FakeBackend([SLOW, "and on it goes"], lacks=lacks)
    driver = open_window(backend)
    driver.ask("hi")
    driver.until(lambda: driver.text.endswith("Model\na"))
    start = time.monotonic()
    if how == "Stop":
        driver.press("Stop")
    else:
        driver.key(how)
    driver.idle()
    assert time.monotonic() - start < 2
    assert driver.status.startswith("Done (cancelled): ")
    driver.ask_and_wait("go on")
    assert driver.text.endswith("and on it goes")
    assert driver.status.startswith("Done (stop): ")
    assert re.search(r"(?s)hi\b.*\ba\b.*go on", backend.asked[-1].context)


def test_stop_ends_a_prefill(open_window: OpenWindow) -> None:
    driver = open_window(FakeBackend(prefill_token_seconds=60))
    driver.ask("hi")
    driver.press("Stop")  # before the worker has so much as begun
    driver.idle()
    assert driver.status.startswith("Done (cancelled): ")
    driver.ask("hi")
    time.sleep(0.05)  # in the middle of it
    driver.press("Stop")
    driver.idle()
    assert driver.status.startswith("Done (cancelled): ")


def test_the_window_lives_while_the_model_works(open_window: OpenWindow) -> None:
    driver = open_window(FakeBackend(prefill_token_seconds=60))
    driver.ask("hi")
    driver.key("<Key-x>")
    driver.root.geometry("600x400")
    driver.until(lambda: driver.root.winfo_width() == 600, 5)
    assert driver.window.entry.get() == "x"
    driver.key("<Return>")  # one question at a time: it waits in the entry
    assert driver.window.entry.get() == "x"
    assert not driver.enabled("Send")
    assert not driver.enabled("Save")


def test_enter_sends_and_an_empty_question_does_not(open_window: OpenWindow) -> None:
    driver = open_window(FakeBackend())
    driver.key("<Return>")
    assert driver.text == ""
    driver.window.entry.insert(0, "hello")
    driver.key("<Return>")
    driver.idle()
    assert driver.text == "You\nhello\nModel\nYou said: hello"


def test_who_scrolled_up_is_left_in_peace(open_window: OpenWindow) -> None:
    driver = open_window(FakeBackend("\n" * 60))
    driver.ask_and_wait("one")
    assert driver.window.paper.yview()[1] == 1.0
    driver.window.paper.yview_moveto(0)
    driver.ask_and_wait("two")
    assert driver.window.paper.yview()[0] == 0.0


def test_closing_in_the_middle_of_an_answer_leaves_nothing_behind(open_window: OpenWindow) -> None:
    driver = open_window(FakeBackend(SLOW))
    driver.ask("hi")
    driver.until(lambda: driver.text.endswith("Model\na"))
    start = time.monotonic()
    driver.close()
    assert time.monotonic() - start < 5
    assert driver.gone
    assert not driver.window.worker.is_alive()
    with pytest.raises(ClosedError):
        driver.llama.generate("hi")


@pytest.mark.parametrize("moment", ["prefill", "load"])
def test_it_can_be_closed_at_any_moment(
    example: ModuleType, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = FakeBackend(prefill_token_seconds=60)
    gate = threading.Event()
    if moment == "load":
        load = backend.load

        def slow_load(*args: object) -> object:
            gate.wait(30)
            return load(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(backend, "load", slow_load)
    driver = Driver(example, backend)
    if moment == "prefill":
        driver.idle()
        driver.ask("hi")
        driver.root.update()
    else:
        threading.Timer(0.2, gate.set).start()
    driver.close()
    assert driver.gone
    assert driver.tracebacks == []


def test_errors_are_shown_in_the_window(
    open_window: OpenWindow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "no.session").write_text("this is no session" * 10)
    choose(monkeypatch, tmp_path / "no.session")
    driver = open_window(FakeBackend([FakeAnswer("Well", fails_after=2), "Fine."]))
    driver.ask_and_wait("one")
    assert "Error\nthe fake failed" in driver.text
    assert driver.status == "That did not work"
    driver.ask_and_wait("two")
    assert driver.text.endswith("Fine.")
    driver.press_and_wait("Open")
    assert driver.text.endswith("this is a text file, not a session")
    assert driver.status == "That did not work"
    assert driver.enabled("Send")


def test_a_dialog_that_is_cancelled_changes_nothing(
    open_window: OpenWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filedialog, "askopenfilename", lambda: "")
    driver = open_window(FakeBackend())
    driver.press("Open")
    assert driver.status == "Ready"


def test_a_model_that_cannot_be_loaded_is_told_and_another_can_be_chosen(
    open_window: OpenWindow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "text.gguf").write_text("no model\n" * 99)
    choose(monkeypatch, tmp_path / "text.gguf", open_model("demo").path)
    driver = open_window(FakeBackend("Hello!"), str(tmp_path / "nowhere.gguf"))
    assert "nowhere.gguf" in driver.text.rpartition("Error\n")[2]
    assert driver.status == "To load a model, use Model…"
    assert not driver.enabled("Send")
    assert driver.enabled("Model")
    driver.press_and_wait("Model")
    assert driver.text.endswith(
        "this is a text file, not a GGUF file: give the path of a GGUF file"
    )
    driver.press_and_wait("Model")
    assert (driver.text, driver.status) == ("", "Ready")
    assert driver.window.about["text"].startswith("llama-bridge demo on the fake backend")
    driver.ask_and_wait("hi")
    assert driver.text.endswith("Hello!")


def test_a_model_that_cannot_be_loaded_leaves_the_one_before_in_use(
    open_window: OpenWindow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    choose(monkeypatch, tmp_path / "nowhere.gguf")
    driver = open_window(FakeBackend())
    driver.ask_and_wait("one")
    driver.press_and_wait("Model")
    assert "nowhere.gguf" in driver.text.rpartition("Error\n")[2]
    assert driver.status == "That did not work"
    driver.ask_and_wait("two")
    assert driver.text.endswith("You said: two")


def test_a_model_given_to_open_is_told_to_be_one_and_where_it_goes(
    open_window: OpenWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(monkeypatch, open_model("demo").path)
    driver = open_window(FakeBackend())
    driver.ask_and_wait("one")
    driver.press_and_wait("Open")
    assert "this is a model file (GGUF), not a session" in driver.text
    assert driver.status == "To load a model, use Model…"
    driver.press_and_wait("Model")
    assert driver.status == "Ready"


def test_while_the_model_works_no_other_can_be_chosen(open_window: OpenWindow) -> None:
    driver = open_window(FakeBackend(SLOW))
    driver.ask("hi")
    assert not driver.enabled("Model")


def test_the_script_opens_a_window_and_ends_when_it_is_closed(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch, llama_backend: str
) -> None:
    class ClosesItself(tk.Tk):
        def mainloop(self, n: int = 0) -> None:
            self.after(200, lambda: self.tk.call(self.protocol("WM_DELETE_WINDOW")))
            super().mainloop(n)

    monkeypatch.setattr(tk, "Tk", ClosesItself)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--backend", llama_backend])
    example.main()
