"""llama-bridge: one interface to llama.cpp everywhere Python runs."""

from __future__ import annotations

import logging

from ._version import __version__
from .bridge import LlamaBridge
from .capabilities import Capability
from .chat.template import Message
from .conversation import Session
from .engine import Engine, EngineInfo, MemoryKind
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
    PathLike,
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
from .generation import Fallback, FinishReason, Generation, Mode, Usage
from .local.engine_backend import EngineBackend
from .models.gguf import ArrayRef, GgufHeader, TensorInfo, Value
from .models.source import ModelFile, ModelSource
from .params import KvType, ModelParams, ModelSettings, SamplingParams, SamplingSettings
from .progress import OnProgress, Progress, ProgressStage, ProgressUnit
from .request import Request
from .runtime import Availability, Backend, Model, Runtime, SessionStorage
from .snapshot import SessionInfo, Snapshot, TurnMark
from .stream import PendingAnswer, TextStream
from .verification import FieldCheck, LogitCheck, Verification

__all__ = [
    "__version__",
    "ArrayRef",
    "Availability",
    "Backend",
    "BackendUnavailable",
    "BridgeError",
    "Capability",
    "ClosedError",
    "ContextOverflow",
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
    "InvalidInput",
    "InvalidModel",
    "KvType",
    "LlamaBridge",
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
    "OnProgress",
    "OutOfMemory",
    "PathLike",
    "PendingAnswer",
    "Progress",
    "ProgressStage",
    "ProgressUnit",
    "Request",
    "Runtime",
    "SamplingParams",
    "SamplingSettings",
    "Session",
    "SessionCancelled",
    "SessionCorrupt",
    "SessionError",
    "SessionInfo",
    "SessionMismatch",
    "SessionNotFound",
    "SessionsLocked",
    "SessionStorage",
    "SessionWriteError",
    "Snapshot",
    "TemplateError",
    "TensorInfo",
    "TextStream",
    "TurnMark",
    "UnsupportedCapability",
    "Usage",
    "Value",
    "Verification",
]

# A library does not print: without this, logging would write warnings to the terminal by itself.
logging.getLogger(__name__).addHandler(logging.NullHandler())
