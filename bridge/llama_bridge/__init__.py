"""llama-bridge: one interface to llama.cpp everywhere Python runs."""

from __future__ import annotations

import logging

from ._version import __version__
from .bridge import LlamaBridge
from .capabilities import Capability
from .engine import Availability, Backend, Engine, EngineInfo, MemoryKind
from .errors import *  # noqa: F403 -- the error tree is public whole, listed in errors.__all__
from .errors import __all__ as _errors
from .generation import Generation, Mode, TextStream, Usage
from .models import ModelFile
from .params import ModelParams, SamplingParams
from .persistence import SessionInfo
from .templates import Message

__all__ = [
    "Availability",
    "Backend",
    "Capability",
    "Engine",
    "EngineInfo",
    "Generation",
    "LlamaBridge",
    "MemoryKind",
    "Message",
    "Mode",
    "ModelFile",
    "ModelParams",
    "SamplingParams",
    "SessionInfo",
    "TextStream",
    "Usage",
    "__version__",
    *_errors,
]

# A library does not print: without this, logging would write warnings to the terminal by itself.
logging.getLogger(__name__).addHandler(logging.NullHandler())
