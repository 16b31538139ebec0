"""``llama-bridge demo``: the walk-through on every backend, with a transcript and a verdict."""

from __future__ import annotations

import platform
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from .. import registry
from .._version import __version__
from ..capabilities import Capability
from ..errors import BackendUnavailable, BridgeError
from ..hub.find import find_model
from ..models.source import DEMO, open_model
from ..params import ModelParams
from ..runtime import Availability, Backend
from .failures import describe
from .logs import verbose
from .options import as_json, loading_options
from .terminal import Terminal, count, duration, plain
from .walkthrough import ASK, Check, Step, says, walk

__all__ = ["demo"]

_NAME = "Zorvane"
_INTRODUCTION = (
    "What this shows: a chat's next turn costs only its new tokens, a saved conversation outlives the "
    "program, and a backend that cannot do that says so."
)


@click.command
@click.option("--name", default=_NAME, show_default=True, help="The name to tell the model.")
@click.option("--model", default=DEMO, show_default=True, help="A chat model to use instead.")
@loading_options("all that are available")
@as_json
@verbose
@click.pass_context
def demo(
    context: click.Context,
    /,
    name: str,
    model: str,
    backend: str,
    params: ModelParams,
    as_json: bool,
) -> None:
    """Continue, save, load and reset a conversation on each backend.

    The model is told a name and asked for it several times. The exit status is 0 only if it knew the name
    when it should, and did not when it should not.
    """
    terminal: Terminal = context.obj
    if not name.strip() or says(ASK, name):
        raise click.BadParameter("give a name that is not in the question", param_hint="--name")
    with terminal.waiting(f"looking for {model}"):
        open_model(find_model(model, terminal.progress))
    chosen, missing = _choose(backend)
    show = _Silent(terminal) if as_json else _Transcript(terminal)
    show.start(missing)
    runs = [_run(each, model, params, name, show) for each in chosen]
    ok = all(run["ok"] for run in runs)
    if as_json:
        terminal.json(
            {
                "ok": ok,
                "llama_bridge": __version__,
                "python": platform.python_version(),
                "model": model,
                "name": name,
                "backends": runs,
                "unavailable": [asdict(a) for a in missing],
            }
        )
    else:
        show.end(runs, model, may_misspell=model == DEMO and name != _NAME)
    sys.exit(0 if ok else 1)


def _choose(name: str) -> tuple[list[Backend], list[Availability]]:
    if name != registry.AUTO:
        return registry.candidates(name), []
    states = {state.name: state for state in registry.probe_all()}
    chosen = [backend for backend in registry.local_backends() if states[backend.name].ok]
    if not chosen:
        registry.candidates(name)  # raises, with every reason and hint
        raise BackendUnavailable(name, "none was found")
    return chosen, [state for state in states.values() if not state.ok]


def _run(
    backend: Backend, model: str, params: ModelParams, name: str, show: _Transcript
) -> dict[str, Any]:
    state = backend.probe()
    show.backend(backend, state)
    steps: list[Step] = []
    error = None
    with tempfile.TemporaryDirectory(prefix="llama-bridge-") as folder:
        try:
            walking = walk(backend, model, params, name, Path(folder), show.terminal.progress)
            while (step := _next(walking, show.terminal, backend)) is not None:
                steps.append(step)
                show.step(step)
        except BridgeError as raised:
            error = describe(raised)
            show.broken(error)
    return {
        "backend": backend.name,
        "engine": state.version,
        "ok": error is None and not any(step.failed for step in steps),
        "error": error,
        "steps": [step.record() for step in steps],
    }


def _next(walking: Iterator[Step], terminal: Terminal, backend: Backend) -> Step | None:
    # The first load on wasm compiles for seconds, and a model of gigabytes takes long too.
    with terminal.waiting(f"{backend.name} is working"):
        return next(walking, None)


class _Transcript:
    """Shows the steps to people as they happen."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal

    def start(self, missing: list[Availability]) -> None:
        self.terminal.line(_INTRODUCTION)
        for state in missing:
            self.terminal.line()
            self.terminal.line(f"{state.name}: not available here: {state.reason}", "yellow")
            if state.hint:
                self.terminal.line(f"  to get it: {state.hint}")

    def backend(self, backend: Backend, state: Availability) -> None:
        self.terminal.line()
        line = Text(plain(backend.name), style="bold")
        self.terminal.line(line.append(f"  {plain(state.version)}", style="not bold dim"))

    def step(self, step: Step) -> None:
        """Show one row: the call, what was said, what it cost, and whether it is right."""
        told = Text()
        if step.generation is not None:
            told.append("you:   ", "dim").append(plain(step.prompt) + "\n")
            told.append("model: ", "dim").append(plain(step.generation.text) + "\n", "bold")
            if step.generation.fallback:
                told.append(f"fresh, because {plain(str(step.generation.fallback))}\n", "yellow")
            told.append(_cost(step), "dim")
        else:
            told.append(plain(step.note), "yellow" if step.refused else "")
            if not step.refused:
                told.append(f", {duration(step.seconds)}", "dim")
        for check in step.failed:
            told.append(f"\nwrong: {plain(_tell(check))}", "bold red")
        mark = Text("")
        if step.checks:
            mark = Text(*(self._bad if step.failed else self._good))
        self.terminal.columns([(mark, step.call, told)], len(self.terminal.cross), 17)

    @property
    def _good(self) -> tuple[str, str]:
        return self.terminal.tick, "green"

    @property
    def _bad(self) -> tuple[str, str]:
        return self.terminal.cross, "bold red"

    def broken(self, message: str) -> None:
        self.terminal.line(f"{self.terminal.cross} stopped here: {message}", "bold red")

    def end(self, runs: list[dict[str, Any]], model: str, *, may_misspell: bool) -> None:
        line = self.terminal.line
        wrong = [run["backend"] for run in runs if not run["ok"]]
        n_checks = sum(len(step["checks"]) for run in runs for step in run["steps"])
        line()
        if wrong:
            line(f"Not everything was right: see {', '.join(wrong)} above.", "bold red")
            if may_misspell:
                line("The demo model is tiny and misspells some names: try a shorter one.")
            line("Next:")
            self.terminal.rows({"  llama-bridge doctor": "what works here, and what to do"})
            return
        names = ", ".join(run["backend"] for run in runs)
        line(f"Everything was right ({names}: {count(n_checks, 'check')}).", "bold green")
        line("Next:")
        backend = _named(runs[0]["backend"])
        chat = _chat_command(backend, model)
        keeps = Capability.SESSION_PERSISTENCE in backend.capabilities
        rows = {chat: "talk to it" + "; /save and /load keep the conversation" * keeps}
        if model == DEMO:
            if not backend.asks_servers:
                rows[chat + " MODEL.gguf"] = "the same with your own model"
            rows["  llama-bridge demo --name NAME"] = "with any name you like"
        self.terminal.rows(rows)


class _Silent(_Transcript):
    """Shows nothing: the output is for a script."""

    def start(self, missing: list[Availability]) -> None:
        pass

    def backend(self, backend: Backend, state: Availability) -> None:
        pass

    def step(self, step: Step) -> None:
        pass

    def broken(self, message: str) -> None:
        pass


def _named(name: str) -> Backend:
    return next(each for each in registry.backends() if each.name == name)


def _chat_command(backend: Backend, model: str) -> str:
    """How to talk to a model on a backend that worked here."""
    command = "  llama-bridge chat"
    usual, *_ = registry.candidates()
    if usual.name != backend.name:
        command += f" --backend {backend.name}"
    return command if model == DEMO else f"{command} {shlex.quote(model)}"


def _tell(check: Check) -> str:
    return f"expected {check.what}; saw: {check.saw}"


def _cost(step: Step) -> str:
    assert step.generation is not None
    usage = step.generation.usage
    mode = "" if step.generation.fallback else f"{step.generation.mode.value}: "
    return (
        f"{mode}{usage.cached_tokens} cached + {usage.evaluated_tokens} evaluated"
        f" tokens, {usage.completion_tokens} generated, {duration(step.seconds)}"
    )
