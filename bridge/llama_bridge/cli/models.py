"""``llama-bridge pull``, ``models`` and ``rm``: the models on this disk, and how they come and go."""

from __future__ import annotations

from typing import Any

import click

from ..hub.find import pull_model
from ..hub.removing import models_named, remove_model
from ..hub.shelf import KeptModel, kept_models
from ..hub.unfinished import is_unfinished, unfinished_models
from ..models.source import open_model
from .logs import verbose
from .options import as_json
from .terminal import Terminal, count, one_line, size

__all__ = ["models", "pull", "rm"]


@click.command
@click.argument("name")
@as_json
@verbose
@click.pass_context
def pull(context: click.Context, name: str, as_json: bool) -> None:
    """Fetch a model, or a newer one than there is.

    NAME is hf:org/repo, hf:org/repo:Q5_K_M, hf:org/repo/file.gguf, or an address such as https://example.org/x.gguf. What an earlier try fetched is not fetched again. The file is checked against its sha256.
    """
    terminal: Terminal = context.obj
    with terminal.waiting(f"looking for {name}"):
        path = pull_model(name, terminal.progress)
    model = open_model(path)
    if as_json:
        terminal.json({"name": name, "path": str(path), "size": model.header.file_size})
    else:
        terminal.line(f"{path} ({size(model.header.file_size)})")


@click.command
@as_json
@verbose
@click.pass_context
def models(context: click.Context, as_json: bool) -> None:
    """List the models on this disk, and downloads that broke off.

    They are in the cache of the hub, which llama.cpp uses too, and in the folders of Ollama and LM Studio. The name in the
    first column loads a model.
    """
    terminal: Terminal = context.obj
    with terminal.waiting("reading headers"):
        found = [*kept_models(), *unfinished_models()]
    if as_json:
        terminal.json([_record(model) for model in found])
        return
    if not found:
        terminal.line("no models on this disk yet")
        terminal.note("llama-bridge pull hf:org/repo fetches one; demo is in the package")
        return
    for model in found:
        terminal.line(one_line(model.name), style="bold")
        terminal.line(f"  {_facts(model)}", style="red" if model.problem else "")
    terminal.line(f"{count(len(found), 'model')}, {size(sum(model.size for model in found))}")


@click.command
@click.argument("name")
@click.option("--all", "everything", is_flag=True, help="All files that NAME may mean.")
@as_json
@verbose
@click.pass_context
def rm(context: click.Context, name: str, everything: bool, as_json: bool) -> None:
    """Remove NAME from this disk. Models of Ollama and LM Studio stay."""
    terminal: Terminal = context.obj
    found = models_named(name)
    if len(found) > 1 and not everything:
        names = "\n".join(
            f"  {model.path if is_unfinished(model) else model.name}" for model in found
        )
        raise click.UsageError(f"{name} may be one of {len(found)}: give --all, or one of\n{names}")
    freed: list[tuple[str, int]] = []  # several unfinished downloads may have one name
    for model in found:
        freed.append((model.name, remove_model(model)))
        if not as_json:
            terminal.line(f"removed {one_line(model.name)} ({size(freed[-1][1])} freed)")
    if as_json:
        terminal.json([{"name": name, "freed": n_bytes} for name, n_bytes in freed])


def _facts(model: KeptModel) -> str:
    if model.problem:
        return f"{size(model.size)}, {model.place}: {model.problem.partition(chr(10))[0]}"
    parts = [f"{len(model.files)} files"] * (len(model.files) > 1)
    facts = [size(model.size), *parts, model.quantisation or "no weights", model.architecture]
    if model.n_ctx_train:
        facts.append(f"{model.n_ctx_train:,} tokens")
    return ", ".join([*facts, model.place])


def _record(model: KeptModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "path": str(model.path),
        "files": [str(path) for path in model.files],
        "from": model.place,
        "size": model.size,
        "quantisation": model.quantisation,
        "architecture": model.architecture or None,
        "context_length": model.n_ctx_train or None,
        "sha256": model.sha256,
        "problem": model.problem or None,
    }
