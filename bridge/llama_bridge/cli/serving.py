"""What ``llama-bridge serve`` does once its options are read. Needs the extra ``[serve]``."""

from __future__ import annotations

import ipaddress
import logging
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from .. import registry
from ..aio import AsyncLlamaBridge
from ..bridge import LlamaBridge
from ..capabilities import Capability
from ..checks import full_path
from ..errors import UnsupportedCapability
from ..models.source import DEMO
from ..params import ModelParams, SamplingParams, override
from ..serve import ServerSettings, app
from ..serve.app import application
from ..serve.running import Application, ignore_signals, run
from ..serve.served import Served
from ..serve.shelf import Shelf, models_in, session_folder
from .listening import listen
from .terminal import Terminal

__all__ = ["Plan", "serve_one", "serve_several", "serve_window"]


_LARGEST = 256 << 20
"""Bytes of a conversation in a window: each version of a question has its attached files with it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The options of the command, by their names."""

    host: str
    port: int
    grace: int
    api_keys: tuple[str, ...]
    hosts: tuple[str, ...]
    origins: tuple[str, ...]
    log_prompts: bool
    sessions_dir: str | None
    n_parallel: int
    session_memory: int
    backend: str
    untrusted: bool
    adapters: list[tuple[str, float]]
    params: ModelParams

    @property
    def settings(self) -> ServerSettings:
        """How requests are treated."""
        return ServerSettings(
            api_keys=self.api_keys,
            hosts=self.hosts,
            cors_origins=self.origins,
            log_prompts=self.log_prompts,
        )

    def arguments(
        self, name: str, model: str, *, keeps: bool = True, untrusted: bool = False
    ) -> dict[str, Any]:
        """Arguments of a bridge for one model, whose sessions are kept if it can do that."""
        keeps = keeps and self._keeps
        return {
            "backend": self.backend,
            "untrusted": self.untrusted or untrusted,
            "params": override(self.params, {"n_parallel": self.n_parallel}),
            # Nothing is cut unless a request says so; the packaged model needs a low temperature to spell names right.
            "sampling": SamplingParams(
                max_tokens=None,
                temperature=0.0 if model == DEMO else SamplingParams().temperature,
                speculate=True,
            ),
            "sessions_dir": session_folder(self._folder / "models", name) if keeps else None,
            "sessions_limit": self.settings.max_responses if keeps else None,
            "session_memory": self.session_memory << 20,
        }

    @property
    def _keeps(self) -> bool:
        """Whether there is a folder, and a backend that can keep sessions. Otherwise only what was said is kept."""
        if self.sessions_dir is None:
            return False
        choose = registry.sandboxes if self.untrusted else registry.candidates
        return Capability.SESSION_PERSISTENCE in choose(self.backend)[0].capabilities

    @property
    def _folder(self) -> Path:
        assert self.sessions_dir is not None
        return full_path("sessions_dir", self.sessions_dir)

    @property
    def responses(self) -> Path | None:
        """Where responses are kept."""
        return None if self.sessions_dir is None else self._folder / "responses"


def serve_one(terminal: Terminal, plan: Plan, model: str, aliases: Sequence[str]) -> None:
    """Serve a model that is loaded now."""
    name = aliases[0] if aliases else Path(model).stem
    with listen(plan.host, plan.port) as listener:
        with terminal.waiting(f"loading {model}"):
            llama = _load(terminal, plan, name, model)
        with llama:
            made = app(
                llama,
                name=aliases or name,
                settings=plan.settings,
                responses_dir=plan.responses,
            )
            _run(terminal, plan, made, listener)
    ignore_signals()


def _load(terminal: Terminal, plan: Plan, name: str, model: str) -> LlamaBridge:
    how: dict[str, Any] = {"adapters": plan.adapters, "on_progress": terminal.progress}
    try:
        return LlamaBridge(model, **how, **plan.arguments(name, model))
    except UnsupportedCapability as error:
        if Capability.SESSION_PERSISTENCE not in error.capability:
            raise
        return LlamaBridge(model, **how, **plan.arguments(name, model, keeps=False))


def serve_several(
    terminal: Terminal, plan: Plan, models: Sequence[str], models_dir: str | None, idle: float
) -> None:
    """Serve models that are loaded when somebody asks for them."""
    found = {} if models_dir is None else models_in(models_dir)
    found |= {Path(model).stem if model.endswith(".gguf") else model: model for model in models}

    def open_model(name: str, model: str, keeps: bool) -> AsyncLlamaBridge:
        return AsyncLlamaBridge(model, **plan.arguments(name, model, keeps=keeps))

    with listen(plan.host, plan.port) as listener:
        made = application(Shelf(found, open_model, idle), plan.settings, plan.responses)
        _run(terminal, plan, made, listener)
    ignore_signals()


def serve_window(
    terminal: Terminal,
    plan: Plan,
    model: str,
    conversations: Path,
    listener: socket.socket,
    word: str,
    ready: Callable[[], None],
) -> None:
    """Answer a window with a model until a signal ends it. Another model can be loaded there."""
    from ..serve.current_model import CurrentModel  # with the next two: 30 ms, for a window only
    from ..serve.entrance import Entrance
    from ..serve.library import listed_name

    def arguments(name: str, untrusted: bool) -> dict[str, Any]:
        return plan.arguments(name, name, untrusted=untrusted)

    with terminal.waiting(f"loading {model}"):
        llama = _load(terminal, plan, model, model)
        name = listed_name(model, llama.model.path)
    with llama:
        served = Served(name, AsyncLlamaBridge.of(llama))
        models = CurrentModel(served, arguments, untrusted=plan.untrusted)
        settings = replace(plan.settings, max_body=_LARGEST)
        made = application(models, settings, None, conversations, Entrance(word))
        run(made, listener, grace=plan.grace, ready=ready)


def _run(terminal: Terminal, plan: Plan, made: Application, listener: socket.socket) -> None:
    shown = f"[{plan.host}]" if ":" in plan.host else plan.host
    address = f"http://{shown}:{listener.getsockname()[1]}/v1"
    if not plan.api_keys and not _is_here(plan.host):
        click.echo("warning: whoever reaches this address may ask: give --api-key-file", err=True)
    with _requests_on_standard_error():
        run(made, listener, grace=plan.grace, ready=lambda: terminal.write(f"{address}\n"))


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _requests_on_standard_error:  # noqa: N801 -- used like a function
    """The log of requests, as long as this is entered."""

    def __init__(self) -> None:
        self._handler = logging.StreamHandler(sys.stderr)
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        self._logger = logging.getLogger("llama_bridge.serve")

    def __enter__(self) -> None:
        self._logger.addHandler(self._handler)
        self._logger.setLevel(logging.INFO)
        self._logger.propagate = False

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self._handler)
        self._logger.setLevel(logging.NOTSET)
        self._logger.propagate = True
