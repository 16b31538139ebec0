"""``llama-bridge run``: one answer on standard output, for shells and scripts."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, cast

import click

from ..bridge import LlamaBridge
from ..capabilities import Capability
from ..errors import BridgeError, InvalidInput
from ..generation import Generation
from ..json_text import read_json
from ..models.source import DEMO
from ..snapshot import SessionInfo
from .logs import verbose
from .options import (
    BEST,
    adapter_option,
    as_json,
    load,
    loading_options,
    sampling_options,
    untrusted_option,
)
from .streaming import Texts, TextsOfChat, ending, record, stream_answer
from .terminal import Terminal

__all__ = ["run"]

_INTERRUPTED = 130


@click.command
@click.argument("prompt", required=False)
@click.option(
    "--model", "-m", default=DEMO, show_default=True, help="A GGUF file, or a name: hf:org/repo."
)
@click.option(
    "--session",
    metavar="FILE",
    help="Continue the conversation in this file and save it there; a new file starts one.",
)
@click.option("--system", metavar="TEXT", help="System message, if a conversation starts.")
@click.option(
    "--raw", is_flag=True, help="Continue the prompt as it is, without the chat template."
)
@click.option("--json-schema", metavar="FILE", help="Answer with JSON that fits this JSON schema.")
@click.option("--grammar", metavar="FILE", help="Answer with a text that fits this GBNF grammar.")
@click.option(
    "--tools",
    metavar="FILE",
    help="Let the model call these tools, a JSON list in OpenAI's form; each call is printed as a line of JSON.",
)
@click.option(
    "--tool-choice",
    metavar="CHOICE",
    help="How it may call them: auto, none, required, or the name of the one to call.  [default: auto]",
)
@loading_options(BEST)
@untrusted_option
@adapter_option
@sampling_options
@as_json
@verbose
@click.pass_context
def run(
    context: click.Context,
    /,
    prompt: str | None,
    model: str,
    session: str | None,
    system: str | None,
    raw: bool,
    json_schema: str | None,
    grammar: str | None,
    tools: str | None,
    tool_choice: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Answer PROMPT and print the answer as it arrives.

    Without PROMPT, or with -, the prompt is read from standard input, without its last line break.
    """
    terminal: Terminal = context.obj
    if raw and system is not None:
        raise click.UsageError("--system needs the chat template, which --raw leaves out")
    if json_schema is not None and grammar is not None:
        raise click.UsageError("--json-schema and --grammar exclude each other: give one of them")
    if tools is not None and (raw or session or json_schema or grammar):
        raise click.UsageError("--tools excludes --raw, --session, --json-schema and --grammar")
    if tool_choice is not None and tools is None:
        raise click.UsageError("--tool-choice needs --tools")
    tool_list = _tools(tools)
    schema_text = _file("--json-schema", json_schema)
    grammar_text = _file("--grammar", grammar)
    text = _prompt(prompt, terminal.encoding)
    if session is not None:
        _check_folder(session)
    with load(terminal, model, system=system, **options) as llama:
        if session is not None:
            llama.requires(Capability.SESSION_PERSISTENCE)
            if os.path.exists(os.path.expanduser(session)):
                llama.session_load(session)
        start = llama.generate_stream if session is None else llama.generate_continue_stream

        def ask() -> Texts:
            if tool_list is not None:
                said = {"role": "user", "content": text}
                told = [] if system is None else [{"role": "system", "content": system}]
                return TextsOfChat(
                    llama.chat_stream(
                        [*told, said], tools=tool_list, tool_choice=tool_choice or "auto"
                    )
                )
            return start(
                text,
                chat=False if raw else None,
                json_schema=schema_text,
                grammar=grammar_text,
            )

        try:
            generation = stream_answer(llama, terminal, ask, show=not as_json)
        except BridgeError:
            terminal.end_line()
            raise
        cancelled = generation.finish_reason == "cancelled"
        saved = None
        if session is not None and not cancelled:
            saved = llama.session_save(session)
        if as_json:
            terminal.json(_record(llama, generation, saved))
        else:
            _finish(terminal, llama, generation)
    if cancelled:
        if session is not None:
            terminal.note(f"{session} is unchanged")
        sys.exit(_INTERRUPTED)


def _prompt(argument: str | None, encoding: str) -> str:
    if argument is None and sys.stdin and sys.stdin.isatty():
        raise click.UsageError('give a prompt: llama-bridge run "Hello", or pipe one in')
    if argument not in (None, "-"):
        return argument
    text = sys.stdin.read() if sys.stdin else ""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"standard input is not {encoding.upper()} text") from error
    return text.removesuffix("\n").removesuffix("\r")


def _file(option: str, path: str | None) -> str | None:
    """The text of a file that an option names."""
    if path is None:
        return None
    try:
        with open(os.path.expanduser(path), encoding="utf-8-sig") as file:  # Windows writes a mark
            return file.read()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise click.BadParameter(f"cannot read {path}: {why}", param_hint=option) from error


def _tools(path: str | None) -> Any:
    """The list of tools in a file, or None; the bridge checks each of them."""
    text = _file("--tools", path)
    if text is None:
        return None
    try:
        tools: object = read_json(text)
    except ValueError as error:
        raise click.BadParameter(f"{path} is not JSON: {error}", param_hint="--tools") from error
    if not isinstance(tools, list):
        raise click.BadParameter(f"{path} is not a list of tools", param_hint="--tools")
    return cast("list[object]", tools)


def _check_folder(session: str) -> None:
    # Checked first: an answer that took minutes should not fail because of a missing folder.
    if not session:
        raise click.BadParameter("it is empty: give a file", param_hint="--session")
    folder = os.path.dirname(os.path.realpath(os.path.expanduser(session)))
    if not os.path.isdir(folder):
        raise click.BadParameter(f"no such folder: {folder}", param_hint="--session")


def _finish(terminal: Terminal, llama: LlamaBridge, generation: Generation) -> None:
    if generation.text or not generation.tool_calls:
        terminal.write("\n")
    for call in generation.tool_calls:
        line = {"id": call.id, "name": call.name, "arguments": call.arguments}
        terminal.write(json.dumps(line, ensure_ascii=False) + "\n")
    why = ending(generation, llama.sampling.max_tokens)
    if why and generation.finish_reason != "cancelled":  # whoever pressed Ctrl-C knows
        terminal.note(f"note: {why}")


def _record(
    llama: LlamaBridge, generation: Generation, saved: SessionInfo | None
) -> dict[str, Any]:
    made = record(generation)
    made |= {"model": llama.model_name, "backend": llama.backend, "session": None}
    if saved is not None:
        made["session"] = {
            "path": str(saved.path),
            "n_tokens": saved.n_tokens,
            "n_bytes": saved.n_bytes,
            "n_messages": len(saved.messages),
        }
    return made
