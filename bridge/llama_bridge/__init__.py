"""llama-bridge: one interface to llama.cpp on desktops and in browser pages.

From the top down; each may import what is below it:

.. code-block:: text

    cli/, testing/      used next to the library; llama_bridge_command starts the first, and so does __main__.py
    serve/              OpenAI's interface over HTTP
    aio/                AsyncLlamaBridge, for asyncio and trio
    bridge.py           LlamaBridge: the facade
    loading.py          loads models: on which backend, and which takes over if a server is gone
    session.py          a conversation with a name: saved, loaded, undone, forked
    conversation.py     the calls of a conversation, on the bridge and on each session
    chatting.py         the calls of a chat, which come with all their messages
    local/              a runtime over an engine: turns, token loop, sessions
    refusal.py          what a missing capability is told with
    registry.py         which backends there are, which one is used
    served_model.py     a server's address, or a model to load: which of them arguments mean
    runtime.py          contract 1: answers requests
    files/              session files
    hub/                a model's name to a file on the disk: caches, downloads, digests
    engine.py           contract 2: works on tokens
    kv_sequence.py      contract 2: one sequence in its KV cache
    engine_arguments.py checks of an engine's arguments
    snapshot.py         a conversation at rest
    verification.py     the result of checking a session file
    models/, chat/      model files; messages to a prompt
    structured/         JSON Schema to a grammar
    stream.py           an answer in progress
    showing.py          shows an answer in progress, and progress itself
    vectors.py          what embed and rerank return
    request.py          what a runtime is asked
    prompt.py           a prompt in pieces: the template's text and people's
    generation.py       what it returns
    grammar.py          what an answer must look like
    params.py           settings
    progress.py         progress reports
    capabilities.py     capability flags
    checks.py           checks of arguments
    errors.py           the error tree
    bell.py             wakes waiting threads
    json_text.py        JSON that is not too deep for a page
    markup.py           short texts, and HTML for notebooks
    claim.py            whether a call that waits for its turn is still wanted
    later_signals.py    lets signals wait while C code calls Python functions
    on_wasmtime/        what runs on wasmtime shares this
    session_name.py     session names to file names
    system_memory.py    how much memory this process may have
    file_notes.py       what was found out about files, until they change
    user_cache.py       where this user's caches are
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING

from ._version import __version__
from .bridge import LlamaBridge
from .capabilities import Capability
from .chat.message import Message
from .engine import CacheFull, Engine, EngineInfo, MemoryKind
from .errors import (
    AccessDenied,
    AnswerCutOff,
    BackendUnavailable,
    BridgeError,
    Busy,
    Cancelled,
    ClosedError,
    ContextOverflow,
    DigestMismatch,
    DownloadError,
    EngineError,
    FallbackWarning,
    InvalidAnswer,
    InvalidInput,
    InvalidModel,
    InvalidSchema,
    InvalidToolCall,
    ModelError,
    ModelLoadError,
    ModelNotFound,
    NoModel,
    NoSession,
    NotEnoughSpace,
    OutOfMemory,
    PathLike,
    RateLimited,
    ServerGone,
    SessionCancelled,
    SessionCorrupt,
    SessionError,
    SessionMismatch,
    SessionNotFound,
    SessionsLocked,
    SessionWriteError,
    TemplateError,
    UnsupportedCapability,
)
from .generation import Fallback, FinishReason, Generation, Mode, TokenLogprob, ToolCall, Usage
from .grammar import Grammar, JsonSchema, Trigger, TriggerKind
from .kv_sequence import KvSequence
from .models.adapter import Adapter, AdapterFile, GivenAdapter
from .models.parts_source import PartsSource
from .models.source import ModelFile, ModelSource, SplitSource
from .params import (
    KvType,
    LogitBias,
    ModelParams,
    ModelSettings,
    Pooling,
    SamplingParams,
    SamplingSettings,
)
from .progress import OnProgress, Progress, ProgressStage, ProgressUnit
from .prompt import Piece, Prompt
from .request import Request
from .runtime import Availability, Backend, Model, Runtime, ServedModel, SessionStorage
from .session import Session
from .snapshot import SessionInfo, Snapshot, TurnMark
from .stream import PendingAnswer, TextStream
from .vectors import Ranked, Vectors

if TYPE_CHECKING:
    from .aio import AsyncLlamaBridge, AsyncSession, AsyncStream
    from .chat.form import AnswerReader, ChatPrompt, ChatWish, ToolForm
    from .chat.module.guest import Parsed, ParsedCall
    from .chat.stream import ChatEvent, ChatStream, ReasoningDelta, TextDelta, ToolCallDelta
    from .chat.tools import Tool, ToolChoice, ToolLike
    from .files.folder import SessionFolder
    from .local.engine_backend import EngineBackend
    from .models.gguf import ArrayRef, GgufHeader, TensorInfo, Value
    from .showing import ProgressBar
    from .verification import FieldCheck, LogitCheck, Verification

__all__ = [
    "__version__",
    "AccessDenied",
    "Adapter",
    "AdapterFile",
    "AnswerCutOff",
    "AnswerReader",
    "ArrayRef",
    "AsyncLlamaBridge",
    "AsyncSession",
    "AsyncStream",
    "Availability",
    "Backend",
    "BackendUnavailable",
    "BridgeError",
    "Busy",
    "CacheFull",
    "Cancelled",
    "Capability",
    "ChatEvent",
    "ChatPrompt",
    "ChatStream",
    "ChatWish",
    "ClosedError",
    "ContextOverflow",
    "DigestMismatch",
    "DownloadError",
    "Engine",
    "EngineBackend",
    "EngineError",
    "EngineInfo",
    "Fallback",
    "FallbackWarning",
    "FieldCheck",
    "FinishReason",
    "Generation",
    "GgufHeader",
    "GivenAdapter",
    "Grammar",
    "InvalidAnswer",
    "InvalidInput",
    "InvalidModel",
    "InvalidSchema",
    "InvalidToolCall",
    "JsonSchema",
    "KvType",
    "KvSequence",
    "LlamaBridge",
    "LogitBias",
    "LogitCheck",
    "MemoryKind",
    "Message",
    "Mode",
    "Model",
    "ModelError",
    "ModelFile",
    "ModelLoadError",
    "ModelNotFound",
    "ModelParams",
    "ModelSettings",
    "ModelSource",
    "NoModel",
    "NoSession",
    "NotEnoughSpace",
    "OnProgress",
    "OutOfMemory",
    "Parsed",
    "ParsedCall",
    "PartsSource",
    "PathLike",
    "PendingAnswer",
    "Piece",
    "Pooling",
    "Progress",
    "ProgressBar",
    "ProgressStage",
    "ProgressUnit",
    "Prompt",
    "Ranked",
    "RateLimited",
    "ReasoningDelta",
    "Request",
    "Runtime",
    "SamplingParams",
    "SamplingSettings",
    "ServedModel",
    "ServerGone",
    "Session",
    "SessionCancelled",
    "SessionCorrupt",
    "SessionError",
    "SessionFolder",
    "SessionInfo",
    "SessionMismatch",
    "SessionNotFound",
    "SessionsLocked",
    "SessionStorage",
    "SessionWriteError",
    "Snapshot",
    "SplitSource",
    "TemplateError",
    "TensorInfo",
    "TextDelta",
    "TextStream",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolChoice",
    "ToolForm",
    "ToolLike",
    "Trigger",
    "TriggerKind",
    "TurnMark",
    "UnsupportedCapability",
    "Usage",
    "Value",
    "Vectors",
    "Verification",
]

# A library does not print: without this, logging would write warnings to the terminal.
logging.getLogger(__name__).addHandler(logging.NullHandler())


_LATER = {
    name: module
    for module, names in {
        ".local.engine_backend": "EngineBackend",
        ".files.folder": "SessionFolder",
        ".aio": "AsyncLlamaBridge AsyncSession AsyncStream",
        ".chat.form": "AnswerReader ChatPrompt ChatWish ToolForm",
        ".chat.module.guest": "Parsed ParsedCall",
        ".chat.stream": "ChatEvent ChatStream ReasoningDelta TextDelta ToolCallDelta",
        ".chat.tools": "Tool ToolChoice ToolLike",
        ".models.gguf": "ArrayRef GgufHeader TensorInfo Value",
        ".showing": "ProgressBar",
        ".verification": "FieldCheck LogitCheck Verification",
    }.items()
    for name in names.split()
}
"""What is imported when it is first used, and from where: all of it takes as long as the rest."""


def __getattr__(name: str) -> object:
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
