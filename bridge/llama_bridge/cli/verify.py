"""``llama-bridge session verify``: whether a session file fits a model, by its fields and its logits."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, replace
from typing import Any

import click
from rich.text import Text

from ..bridge import LlamaBridge
from ..capabilities import Capability
from ..errors import InvalidInput
from ..models.source import DEMO
from ..params import ModelParams
from ..verification import FieldCheck, LogitCheck, Verification
from .logs import verbose
from .options import BEST, as_json, loading_options
from .terminal import Terminal, count, duration, plain, size

__all__ = ["verify"]

_SHOWN, _LONGEST = 16, 80
_WAYS_OUT = {
    "context.kv_type_k": "--type-k {}",
    "context.kv_type_v": "--type-v {}",
    "context.n_ctx": "--n-ctx {}",
}


@click.command
@click.argument("file")
@click.option(
    "--model", "-m", default=DEMO, show_default=True, help="A GGUF file, or a name: hf:org/repo."
)
@click.option(
    "--deep", is_flag=True, help="Evaluate the conversation again and compare the logits after it."
)
@click.option(
    "--flash-attn/--no-flash-attn",
    default=True,
    show_default=True,
    help="Fused attention, which a quantised V cache needs.",
)
@loading_options(BEST)
@as_json
@verbose
@click.pass_context
def verify(
    context: click.Context,
    file: str,
    model: str,
    deep: bool,
    flash_attn: bool,
    backend: str,
    params: ModelParams,
    as_json: bool,
) -> None:
    """Check whether FILE, a saved conversation, can be loaded with a model.

    Prints every compared field, as saved and as it is now. The exit status is 0 only if the file can be loaded
    and, with --deep, its KV cache fits its tokens.
    """
    terminal: Terminal = context.obj
    try:
        params = replace(
            params,
            flash_attn=flash_attn,
        )
    except InvalidInput as error:
        raise click.UsageError(str(error)) from error
    with (
        terminal.waiting(f"loading {model}"),
        LlamaBridge(model, backend=backend, params=params, on_progress=terminal.progress) as llama,
    ):
        llama.requires(Capability.SESSION_PERSISTENCE)
        found = llama.session_verify(file, deep=deep)
    if as_json:
        terminal.json(_record(found))
    else:
        _show(terminal, found)
    if not found.ok:
        sys.exit(1)


def _record(found: Verification) -> dict[str, Any]:
    record = asdict(found) | {"path": str(found.path), "ok": found.ok}
    if found.logits is not None:
        # JSON has no NaN or infinity, which a broken cache can give.
        numbers = {
            name: value if math.isfinite(value) else None
            for name, value in asdict(found.logits).items()
        }
        record["logits"] = numbers | {"ok": found.logits.ok}
    return record


def _show(terminal: Terminal, found: Verification) -> None:
    n_bytes, n_tokens = size(found.n_bytes), count(found.n_tokens, "token")
    terminal.line(f"{found.path}: {n_bytes}, {n_tokens}, whole")
    rows: list[tuple[str | Text, ...]] = [("field", "saved", "now", "")]
    for field in found.fields:
        mark = Text(terminal.tick, "green") if field.same else Text(terminal.cross, "red")
        saved, current = _values(field)
        rows.append((field.field, plain(saved), plain(current), mark))
    terminal.columns(rows)
    if found.logits is not None:
        terminal.line(_words(found.logits))
    if found.refusal is not None:
        differing = [field for field in found.fields if not field.same]
        verb = "differs" if len(differing) == 1 else "differ"
        why = f"{', '.join(field.field for field in differing)} {verb}" if differing else ""
        terminal.line(f"{terminal.cross} cannot be loaded: {why or found.refusal}")
        if ways := " ".join(filter(None, (_way_out(field, found) for field in differing))):
            terminal.note(f"try {ways}")
    elif not found.ok:
        terminal.line(f"{terminal.cross} can be loaded, but its KV cache does not fit its tokens")
    else:
        looked = ", and its KV cache fits its tokens" if found.logits is not None else ""
        terminal.line(f"{terminal.tick} can be loaded{looked}")


def _values(field: FieldCheck) -> tuple[str, str]:
    """Both values, shortened if their beginnings already differ."""
    # A file may be hostile: allow no line breaks in the table, and no megabytes.
    saved, current = (" ".join(str(v)[:_LONGEST].split()) for v in (field.saved, field.current))
    if field.same or saved[:_SHOWN] != current[:_SHOWN]:
        return saved[:_SHOWN], current[:_SHOWN]
    return saved, current


def _way_out(field: FieldCheck, found: Verification) -> str:
    if field.field == "context.flash_attention":
        return "--flash-attn" if field.saved else "--no-flash-attn"
    value = found.n_tokens + 1 if field.field == "context.n_ctx" else field.saved
    return _WAYS_OUT.get(field.field, "").format(value)


def _words(check: LogitCheck) -> str:
    return (
        f"logits differ by {check.difference:.2%} of their spread "
        f"(two fresh evaluations by {check.normal:.2%}, limit {check.limit:.2%}); same best token at "
        f"{check.agreeing} of {check.positions} positions; {duration(check.seconds)}"
    )
