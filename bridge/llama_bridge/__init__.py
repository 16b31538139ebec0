"""llama-bridge: one interface to llama.cpp everywhere Python runs."""

from __future__ import annotations

import logging

from ._version import __version__
from .bridge import LlamaBridge
from .capabilities import Capability
from .chat.template import Message
from .conversation import NamedSession
from .engine import Availability, Backend, Engine, EngineInfo, MemoryKind
from .errors import (
    BackendUnavailable,
    BridgeError,
    ClosedError,
    ContextOverflow,
    EngineError,
    FallbackWarning,
    InvalidInput,
    InvalidModel,
    ModelError,
    ModelLoadError,
    ModelNotFound,
    NoModel,
    NoSession,
    OutOfMemory,
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
from .generation import Generation, Mode, TextStream, Usage
from .models.source import ModelFile
from .params import ModelParams, SamplingParams
from .snapshot import SessionInfo

__all__ = [
    "Availability",
    "Backend",
    "BackendUnavailable",
    "BridgeError",
    "Capability",
    "ClosedError",
    "ContextOverflow",
    "Engine",
    "EngineError",
    "EngineInfo",
    "FallbackWarning",
    "Generation",
    "InvalidInput",
    "InvalidModel",
    "LlamaBridge",
    "MemoryKind",
    "Message",
    "Mode",
    "NamedSession",
    "ModelError",
    "ModelFile",
    "ModelLoadError",
    "ModelNotFound",
    "ModelParams",
    "NoModel",
    "NoSession",
    "OutOfMemory",
    "SamplingParams",
    "SessionCancelled",
    "SessionCorrupt",
    "SessionError",
    "SessionInfo",
    "SessionMismatch",
    "SessionNotFound",
    "SessionWriteError",
    "SessionsLocked",
    "TemplateError",
    "TextStream",
    "UnsupportedCapability",
    "Usage",
    "__version__",
]

# A library does not print: without this, logging would write warnings to the terminal by itself.
logging.getLogger(__name__).addHandler(logging.NullHandler())
