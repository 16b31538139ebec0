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
from ..capabilities import Capability, capability_names
from ..errors import BridgeError
from ..params import AUTO, ModelParams
from ..runtime import Backend
from ..system_memory import system_memory
from .failures import describe
from .logs import verbose
from .options import as_json
from .terminal import Terminal, count, duration, size

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
    local = {backend.name for backend in registry.local_backends()}
    working = [str(f["name"]) for f in examined if f["works"] and f["name"] in local]
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
        "memory": asdict(system_memory()),
        "environment": {registry.ENVIRONMENT: os.environ.get(registry.ENVIRONMENT)},
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _examine(terminal: Terminal, backend: Backend) -> dict[str, Any]:
    state = next(a for a in registry.probe_all(servers=True) if a.name == backend.name)
    found: dict[str, Any] = asdict(state) | {
        "works": False,
        "tried": True,
        "error": None,
        "engine": state.version,
        "capabilities": [],
        "load_seconds": None,
        "answer_seconds": None,
        "n_ctx": None,
        "n_gpu_layers": None,
        "gpus": [],
        "where": None,
        "may_have_gpus": Capability.GPU_OFFLOAD in backend.capabilities,
    }
    if not state.ok:
        return found
    if backend.asks_servers and state.reason:  # none is named
        return found | {"tried": False}
    try:
        clock = time.perf_counter()
        params = ModelParams(n_ctx=AUTO, n_gpu_layers=AUTO)
        if backend.asks_servers:
            params = ModelParams()
        with LlamaBridge(
            backend.example(), backend=backend, params=params, on_progress=terminal.progress
        ) as llama:
            found["load_seconds"] = time.perf_counter() - clock
            found["where"] = llama.where or None
            if Capability.TOKENS in llama.capabilities:
                found["engine"] = llama.info.version
                found["n_ctx"], found["n_gpu_layers"] = llama.info.n_ctx, llama.info.n_gpu_layers
                found["gpus"] = list(llama.info.gpus)
            found["capabilities"] = capability_names(llama.capabilities)
            clock = time.perf_counter()
            if Capability.GENERATE in llama.capabilities:
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
            "memory": _memory_in_words(report["memory"]),
            "packages": ", ".join(packages),
            registry.ENVIRONMENT: chosen or "not set: the best available backend is used",
        }
    )


def _memory_in_words(memory: dict[str, Any]) -> str:
    total, available = memory["total"], memory["available"]
    if total is None:
        return "unknown"
    limited = ", the limit of this container" if memory["is_limited"] else ""
    free = f"; {size(available)} free" if available is not None else ""
    return f"{size(total)}{limited}{free}"


def _show_backend(terminal: Terminal, found: dict[str, Any]) -> None:
    terminal.line()
    if found["works"]:
        terminal.line(f"{terminal.tick} {found['name']}: works", "bold green")
    elif not found["tried"]:
        terminal.line(f"- {found['name']}: not tried", "bold")
    elif found["ok"]:
        terminal.line(f"{terminal.cross} {found['name']}: does not work", "bold red")
    else:
        terminal.line(f"{terminal.cross} {found['name']}: not available", "bold yellow")
    rows = {"engine": found["engine"]}
    if found["works"]:
        loaded, seconds = duration(found["load_seconds"]), found["answer_seconds"]
        answered = f", answered in {duration(seconds)}" if seconds is not None else ""
        rows[found["where"] or "demo model"] = f"loaded in {loaded}{answered}"
        layers = f", {count(found['n_gpu_layers'], 'layer')} on a GPU" * found["may_have_gpus"]
        if found["n_ctx"] and not found["where"]:
            rows["auto takes"] = f"a context of {found['n_ctx']:,} tokens{layers}"
        if found["may_have_gpus"]:
            rows["GPUs"] = ", ".join(found["gpus"]) or "none that this build of llama.cpp can use"
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
