"""``llama-bridge doctor``: what works here, and what to do about the rest."""

from __future__ import annotations

import os
import platform
import sys
import time
from dataclasses import asdict
from importlib import metadata
from typing import Any

import click

from .. import registry
from .._version import __version__
from ..bridge import LlamaBridge
from ..capabilities import capability_names
from ..errors import BridgeError
from ..models.source import DEMO
from ..runtime import Backend
from .failures import describe
from .logs import verbose
from .options import as_json
from .terminal import Terminal, duration

__all__ = ["doctor"]

_PACKAGES = ("llama-cpp-python", "wasmtime", "click", "rich", "prompt_toolkit")


@click.command
@as_json
@verbose
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Show which backends work here, and what to do about the others.

    Loads the demo model on each backend and lets it answer. The exit status is 0 if at least one works.
    """
    terminal: Terminal = context.obj
    report = _surroundings()
    if not as_json:
        _show_surroundings(terminal, report)
    examined: list[dict[str, Any]] = []
    for backend in registry.backends():
        with terminal.waiting(f"trying {backend.name}"):
            found = _examine(terminal, backend)
        examined.append(found)
        if not as_json:
            _show_backend(terminal, found)
    working = [str(found["name"]) for found in examined if found["works"]]
    report |= {"ok": bool(working), "backends": examined}
    if as_json:
        terminal.json(report)
    else:
        _conclude(terminal, report, working)
    sys.exit(0 if working else 1)


def _surroundings() -> dict[str, Any]:
    return {
        "llama_bridge": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        "environment": {registry.ENVIRONMENT: os.environ.get(registry.ENVIRONMENT)},
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _examine(terminal: Terminal, backend: Backend) -> dict[str, Any]:
    state = next(a for a in registry.probe_all() if a.name == backend.name)
    found: dict[str, Any] = asdict(state) | {
        "works": False,
        "error": None,
        "engine": state.version,
        "capabilities": [],
        "load_seconds": None,
        "answer_seconds": None,
    }
    if not state.ok:
        return found
    try:
        clock = time.perf_counter()
        with LlamaBridge(DEMO, backend=backend, on_progress=terminal.progress) as llama:
            found["load_seconds"] = time.perf_counter() - clock
            found["engine"] = llama.info.version
            found["capabilities"] = capability_names(llama.capabilities)
            clock = time.perf_counter()
            llama.generate("Hello!", max_tokens=8, temperature=0)
            found["answer_seconds"] = time.perf_counter() - clock
        found["works"] = True
    except BridgeError as error:
        found["error"] = describe(error)
    return found


def _show_surroundings(terminal: Terminal, report: dict[str, Any]) -> None:
    packages = [f"{name} {version}" for name, version in report["packages"].items() if version]
    chosen = report["environment"][registry.ENVIRONMENT]
    terminal.rows(
        {
            "llama-bridge": report["llama_bridge"],
            "Python": f"{report['python']} ({report['executable']})",
            "platform": f"{report['platform']}, {report['cpus']} CPUs",
            "packages": ", ".join(packages),
            registry.ENVIRONMENT: chosen or "not set: the best available backend is used",
        }
    )


def _show_backend(terminal: Terminal, found: dict[str, Any]) -> None:
    terminal.line()
    if found["works"]:
        terminal.line(f"{terminal.tick} {found['name']}: works", "bold green")
    elif found["ok"]:
        terminal.line(f"{terminal.cross} {found['name']}: does not work", "bold red")
    else:
        terminal.line(f"{terminal.cross} {found['name']}: not available", "bold yellow")
    rows = {"engine": found["engine"]}
    if found["works"]:
        loaded, answered = duration(found["load_seconds"]), duration(found["answer_seconds"])
        rows["demo model"] = f"loaded in {loaded}, answered in {answered}"
    else:
        rows["why"] = found["error"] or found["reason"]
        rows["what to do"] = found["hint"]
    rows["can"] = ", ".join(found["capabilities"])
    terminal.rows({"  " + name: value for name, value in rows.items() if value})


def _conclude(terminal: Terminal, report: dict[str, Any], working: list[str]) -> None:
    terminal.line()
    chosen = report["environment"][registry.ENVIRONMENT]
    if not working:
        terminal.line("No backend works here.", "bold red")
    elif chosen and chosen not in (registry.AUTO, *working):
        terminal.line(
            f"{registry.ENVIRONMENT} names {chosen!r}, which does not work: unset it, or name one of "
            + ", ".join(working),
            "bold yellow",
        )
    else:
        default = working[0] if chosen in (None, "", registry.AUTO) else chosen
        terminal.line(f"Used by default: {default}. Next: llama-bridge demo", "bold")
