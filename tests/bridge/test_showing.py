"""Short texts, HTML for notebooks, streams and progress that are shown while they run."""

from __future__ import annotations

import html.parser
import os
import struct
import sys
import types
from pathlib import Path
from typing import Any, cast

import pytest

from llama_bridge import (
    AsyncLlamaBridge,
    Capability,
    Fallback,
    Generation,
    LlamaBridge,
    Mode,
    Progress,
    ProgressBar,
    SessionInfo,
    Usage,
)
from llama_bridge.generation import ToolCall
from llama_bridge.testing import FakeLlama

EVIL = "<script>alert('x')</script> & <b>bold</b>"


class _Checked(html.parser.HTMLParser):
    """Knows which tags there are, and that each is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def generation(text: str) -> Generation:
    usage = Usage(10, 4, 6, 1234, 0.1, 1.0)
    calls = (ToolCall("1", text, {"text": text}),)
    return Generation(
        text, "stop", Mode.FRESH, usage, Fallback.UNSUPPORTED, reasoning=text, tool_calls=calls
    )


def conversation(text: str) -> LlamaBridge:
    llama = FakeLlama(text)
    llama.generate(text)
    return llama


def info(text: str) -> SessionInfo:
    messages = ({"role": "user", "content": text},) * 500
    return SessionInfo(Path("/tmp", text), 7, 8, messages, "", replayed=text)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "Hello!", EVIL, EVIL * 500, "\x1b[31m\0\n" * 9, "é🎈" * 5000])
@pytest.mark.parametrize("make", [generation, info, conversation])
def test_what_somebody_said_is_short_as_text_and_escaped_as_html(make: Any, text: str) -> None:
    if make is conversation:
        text = text[:3000] or "nothing"
    made = make(text)
    several = [made]
    if isinstance(made, LlamaBridge):
        several += [made.session(), AsyncLlamaBridge.of(made), AsyncLlamaBridge.of(made).session()]
    for one in several:
        assert len(repr(one)) < 250
        assert "\n" not in repr(one)
        assert "\x1b" not in repr(one)
        page = _Checked(one._repr_html_())
        assert page.tags <= {"div", "b", "table", "tr", "td"}
        assert len(one._repr_html_()) < 300_000
    if make is generation:
        assert text[:20_000] in page.text
        assert "1,234 generated" in page.text
        assert str(Fallback.UNSUPPORTED) in page.text
        if len(text) > 20_000:
            assert "more characters" in page.text


def test_flags_tell_what_can_and_what_cannot_be_done() -> None:
    page = _Checked((Capability.STREAM | Capability.TOKENS)._repr_html_())
    assert "streamyescancel" not in page.text
    assert "streamyes" in page.text
    assert "cancelno" in page.text
    assert len(repr(~Capability(0))) < 400


def test_a_bridge_says_what_it_is_in_any_state() -> None:
    llama = FakeLlama(n_ctx=300)
    work = llama.session("work")
    assert repr(llama) == "FakeLlama(fake, fake, n_ctx=300)"
    assert "session_tools" in llama._repr_html_()
    llama.close()
    assert repr(llama) == "FakeLlama(closed)"
    assert "closed" in _Checked(llama._repr_html_()).text
    assert "closed" in _Checked(work._repr_html_()).text
    assert repr(LlamaBridge()) == "LlamaBridge(no model)"
    assert repr(AsyncLlamaBridge()) == "AsyncLlamaBridge(no model)"
    assert "no model" in LlamaBridge()._repr_html_()


# what grows


class Notebook:
    """Stands for IPython: keeps what is shown and how it changes."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def HTML(self, text: str) -> str:  # noqa: N802 -- IPython's name
        return text

    def display(self, text: str, *, display_id: bool) -> Notebook:
        assert display_id
        self.shown.append(text)
        return self

    def update(self, text: str) -> None:
        self.shown.append(text)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    shown = Notebook()
    package: Any = types.ModuleType("IPython")
    package.get_ipython = lambda: object()
    package.display = shown
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", cast("Any", shown))
    return shown


def test_a_stream_is_shown_in_one_place_of_a_notebook(notebook: Notebook) -> None:
    with FakeLlama(EVIL) as llama:
        stream = llama.generate_stream("hi")
        stream.show()
        assert notebook.shown[-1] == stream.result._repr_html_()
        for shown in notebook.shown:
            assert "script" not in _Checked(shown).tags


def test_a_stream_is_printed_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeLlama([EVIL, "two\n", "three"]) as llama:
        llama.generate_stream("hi").show()
        stream = llama.generate_stream("hi")
        next(stream)
        stream.show()
        assert capsys.readouterr().out == f"{EVIL}\nwo\n"
        assert stream.result.text == "two\n"


def test_a_failure_is_raised_after_what_was_said(capsys: pytest.CaptureFixture[str]) -> None:
    from llama_bridge import EngineError
    from llama_bridge.testing import FakeAnswer

    with FakeLlama(FakeAnswer("abcdef", fails_after=3)) as llama:
        with pytest.raises(EngineError):
            llama.generate_stream("hi").show()
        assert capsys.readouterr().out == "abc\n"


def steps(bar: ProgressBar) -> None:
    """A load of a second, and a prefill of none."""
    bar._begun = -9
    for done in range(0, 101, 25):
        bar(Progress("load", done, 100, "bytes"))
        bar._begun = -9
    bar(Progress("prefill", 0, 9, "tokens"))
    bar(Progress("prefill", 9, 9, "tokens"))


def test_progress_shows_in_a_notebook(notebook: Notebook) -> None:
    steps(ProgressBar())
    assert any('<progress value="50" max="100">' in text for text in notebook.shown) or (
        '<progress value="100" max="100">' in notebook.shown[-2]
    )
    assert _Checked(notebook.shown[-1]).text == ""
    assert not any("prompt" in text for text in notebook.shown)


def test_progress_shows_nothing_in_a_pipe(capfd: pytest.CaptureFixture[str]) -> None:
    steps(ProgressBar())
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(
    not hasattr(os, "openpty") or sys.platform == "emscripten", reason="needs a pseudo-terminal"
)
@pytest.mark.parametrize("without", [(), ("rich.progress",), ("rich.progress", "tqdm")])
def test_progress_shows_on_a_terminal(
    without: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in without:
        monkeypatch.setitem(sys.modules, name, None)
    import fcntl
    import termios

    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(theirs, "w", closefd=False) as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        steps(ProgressBar())
        terminal.write("the end")
        terminal.flush()
        shown = ""
        while "the end" not in shown:  # a terminal passes on what it has, in pieces
            shown += os.read(ours, 65536).decode()
    os.close(theirs)
    os.close(ours)
    assert "loading" in shown
    assert "%" in shown
    assert "prompt" not in shown


def test_progress_shows_from_a_real_load() -> None:
    bar = ProgressBar()
    with LlamaBridge("demo", backend="wasm", on_progress=bar) as llama:
        assert llama.generate("Hello!").text
    assert bar._bar is None
