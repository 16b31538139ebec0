"""``llama-bridge info`` and ``session info``: what a file contains, without loading an engine."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, cast

import click

from ..chat.module.host import missing
from ..chat.template import ChatTemplate
from ..errors import TemplateError
from ..files.format import SessionFile, read_session_file
from ..models.adapter import alpha_of, is_adapter, rank_of
from ..models.gguf import GgufHeader
from ..models.memory import kv_bytes_per_token
from ..models.pooling import pooling_of
from ..models.source import ModelFile
from ..models.what_fits import memory_facts
from ..params import ModelParams, Pooling
from .logs import verbose
from .memory_table import show_memory
from .options import as_json
from .terminal import Terminal, count, size

if TYPE_CHECKING:
    from ..hub.looking import Looked

__all__ = ["info", "session"]

_SHOWN = 6
_LINE = 160
_LONGEST = 200
_WORDS: dict[Pooling, str] = {
    "none": "no: the file names no pooling",
    "mean": "yes: the mean of a text's tokens",
    "cls": "yes: the first token's vector",
    "last": "yes: the last token's vector",
    "rank": "no: it is a reranker, and scores texts",
}


@click.command
@click.argument("model")
@as_json
@verbose
@click.pass_context
def info(context: click.Context, model: str, as_json: bool) -> None:
    """Show what is in MODEL and whether it fits here.

    Nothing is loaded. MODEL is a GGUF file or a name, such as hf:org/repo:Q4_K_M or https://example.org/x.gguf: of what is
    not on this disk only the header is fetched. It may be a LoRA adapter, too.
    """
    from ..hub.looking import look_at  # 40 ms: only this command needs it

    terminal: Terminal = context.obj
    with terminal.waiting(f"looking at {model}"):
        looked = look_at(model, terminal.progress)
    file = looked.model
    if is_adapter(file.header):
        _show_adapter(terminal, looked, as_json=as_json)
        return
    facts = _place(looked) | _facts(file)
    if as_json:
        terminal.json(facts)
        return
    mix = [f"{kind} {share:.1%}" for kind, share in facts["quantisation"].items()]
    per_token, n_ctx = facts["kv_bytes_per_token"], facts["context_length"]
    cache = "unknown for this architecture"
    if per_token is not None:
        cache = f"{size(per_token)} per token (f16)"
    template = "yes: a prompt is a user turn" if facts["chat_template"] else "no: raw text only"
    terminal.rows(
        {
            "name": facts["name"],
            "file": _where(facts),
            "licence": _licence_in_words(facts["license"]),
            "architecture": facts["architecture"],
            "parameters": f"{facts['parameters']:,}",
            "quantisation": ", ".join(mix) + " of the bytes" if mix else "none: it has no weights",
            "context length": f"{n_ctx:,} tokens" if n_ctx else "not specified",
            "vocabulary": f"{facts['vocabulary']:,} tokens ({facts['tokenizer']})",
            "chat template": template,
            "tools": _TOOLS[facts["tools"]],
            "embeddings": _WORDS[facts["pooling"]],
            "KV cache": cache,
        }
    )
    show_memory(terminal, facts)
    _tell_of_pull(terminal, facts)


def _tell_of_pull(terminal: Terminal, facts: dict[str, Any]) -> None:
    if not facts["on_disk"]:
        terminal.note(f"llama-bridge pull {shlex.quote(facts['loads_by'])} fetches it")


def _place(looked: Looked) -> dict[str, Any]:
    """Where a model is, and what loads it."""
    return {
        "path": str(looked.model.path) if looked.is_here else None,
        "on_disk": looked.is_here,
        "loads_by": looked.name,
        "fetched": looked.received,
    }


def _where(facts: dict[str, Any]) -> str:
    about = f"{size(facts['file_size'])}, GGUF {facts['gguf_version']}"
    parts = facts.get("split_count", 1)
    more = f" and {parts - 1} more" * (parts > 1)
    if facts["on_disk"]:
        return f"{facts['path']}{more} ({about})"
    return f"{facts['loads_by']}{more} ({about}; not on this disk)"


def _licence(header: GgufHeader) -> dict[str, str] | None:
    """What a file says of its licence: a short name, its full name, where it stands."""
    keys = {"id": "general.license", "name": "general.license.name", "link": "general.license.link"}
    found = {name: header.text(key).strip() for name, key in keys.items()}
    return {name: text for name, text in found.items() if text} or None


def _licence_in_words(licence: dict[str, str] | None) -> str:
    if licence is None:
        return "the file names none"
    first = licence.get("id") or licence.get("name") or licence["link"]
    others = [text for text in licence.values() if text != first]
    text = first + f" ({', '.join(others)})" * bool(others)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def _show_adapter(terminal: Terminal, looked: Looked, *, as_json: bool) -> None:
    file = looked.model
    header = file.header
    changes = sorted({t.name.rsplit(".lora_", 1)[0] for t in header.tensors if ".lora_" in t.name})
    facts: dict[str, Any] = _place(looked)
    facts |= {
        "name": file.name,
        "file_size": header.file_size,
        "gguf_version": header.version,
        "adapter": header.text("adapter.type", "unknown"),
        "architecture": file.architecture,
        "rank": rank_of(header),
        "alpha": alpha_of(header),
        "parameters": file.n_parameters,
        "quantisation": _mix(header),
        "changes": changes,
    }
    if as_json:
        terminal.json(facts)
        return
    kinds = sorted(
        {name.split(".", 2)[-1] if name.startswith("blk.") else name for name in changes}
    )
    mix = [f"{kind} {share:.1%}" for kind, share in facts["quantisation"].items()]
    alpha = f"{facts['alpha']:g}" if facts["alpha"] else "none: scales are used as they are"
    what = "a LoRA adapter" if facts["adapter"] == "lora" else f"an adapter ({facts['adapter']})"
    terminal.rows(
        {
            "name": facts["name"],
            "file": _where(facts),
            "kind": f"{what}: give it with --adapter, beside its model",
            "architecture": facts["architecture"],
            "rank": str(facts["rank"]),
            "alpha": alpha,
            "parameters": f"{facts['parameters']:,}",
            "quantisation": ", ".join(mix) + " of the bytes" if mix else "none: it has no weights",
            "changes": f"{count(len(changes), 'tensor')}: {', '.join(kinds)}",
        }
    )
    _tell_of_pull(terminal, facts)


def _facts(model: ModelFile) -> dict[str, Any]:
    header = model.header
    return {
        "name": model.name,
        "file_size": header.file_size,
        "gguf_version": header.version,
        "architecture": model.architecture,
        "parameters": model.n_parameters,
        "quantisation": _mix(header),
        "context_length": model.n_ctx_train,
        "vocabulary": header.n_vocab,
        "tokenizer": header.text("tokenizer.ggml.model", "none"),
        "chat_template": model.chat_template is not None,
        "tools": _tool_form(model),
        "pooling": pooling_of(header, ModelParams()),
        "kv_bytes_per_token": kv_bytes_per_token(header),
        "split_count": len(model.files),
        "license": _licence(header),
    } | memory_facts(header, model.n_ctx_train)


_TOOLS: dict[str | None, str] = {
    "template": "in the form of its chat template",
    "own": "in a form of this library: its chat template knows none",
    None: "none",
}


def _tool_form(model: ModelFile) -> str | None:
    """How tools are told to this model."""
    if model.chat_template is None or missing():
        return None
    try:
        return ChatTemplate(model.chat_template).tool_form
    except TemplateError:
        return None


def _mix(header: GgufHeader) -> dict[str, float]:
    """Each tensor type's share of the weights' bytes, largest first."""
    by_type = header.bytes_by_type
    total = sum(by_type.values()) or 1
    return {kind: n_bytes / total for kind, n_bytes in by_type.items()}


@click.group
def session() -> None:
    """Look at session files."""


@session.command("info")
@click.argument("file")
@as_json
@verbose
@click.pass_context
def session_info(context: click.Context, file: str, as_json: bool) -> None:
    """Show what is in FILE, a saved conversation, after checking that it is intact."""
    terminal: Terminal = context.obj
    saved = read_session_file(file)
    if as_json:
        record = {"path": str(saved.path), "n_bytes": saved.n_bytes}
        terminal.json(record | saved.manifest | {"n_tokens": saved.n_tokens})
        return
    _show(terminal, saved)


def _show(terminal: Terminal, saved: SessionFile) -> None:
    manifest = saved.manifest
    made_with, model = _mapping(manifest.get("context")), _mapping(manifest.get("model"))
    messages = [_mapping(message) for message in _list(manifest.get("messages"))]
    cells = f"K {made_with.get('kv_type_k')}, V {made_with.get('kv_type_v')}"
    flash = "with" if made_with.get("flash_attention") else "without"
    cache = f"{cells}, {flash} flash attention, {made_with.get('state_format')}"
    terminal.rows(
        {
            "file": f"{saved.path} ({size(saved.n_bytes)}, whole)",
            "model": f"{manifest.get('model_name')} ({model.get('architecture')})",
            "saved": f"{manifest.get('created')}",
            "tokens": f"{saved.n_tokens:,} of a context of {made_with.get('n_ctx')}",
            "messages": f"{len(messages)}" if messages else "none: raw text",
            "backend": f"{manifest.get('backend')} ({manifest.get('engine')})",
            "llama-bridge": f"{manifest.get('llama_bridge')}",
            "KV cache": cache if saved.tokens else "left out: the tokens are evaluated again",
        }
    )
    if messages:
        terminal.line()
    if len(messages) > _SHOWN:
        terminal.line(f"... {count(len(messages) - _SHOWN, 'earlier message')}", "dim")
    for message in messages[-_SHOWN:]:
        line = f"{message.get('role')}: {' '.join(str(message.get('content')).split())}"
        terminal.line(line if len(line) <= _LINE else line[: _LINE - 3] + "...")


def _mapping(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []
