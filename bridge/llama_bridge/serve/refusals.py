"""Errors in OpenAI's shape: a status, and a JSON object that names what is wrong and nothing of this machine."""

from __future__ import annotations

import logging
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..errors import (
    BridgeError,
    Busy,
    Cancelled,
    ClosedError,
    ContextOverflow,
    InvalidInput,
    InvalidSchema,
    InvalidToolCall,
    ModelError,
    NoModel,
    OutOfMemory,
    SessionsLocked,
    SessionWriteError,
    TemplateError,
    UnsupportedCapability,
)
from ..params import SamplingParams

__all__ = ["Refused", "as_refused", "naming", "on_error", "refusal"]

_log = logging.getLogger(__name__)

_RETRY = 2
"""Seconds after which a client may try again."""


class Refused(Exception):
    """A request is not answered.

    Attributes:
        status: HTTP's.
        message: what is wrong, and what to do.
        param: the field that is wrong, such as ``"messages[0].content"``.
        code: a word for programs.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    @property
    def record(self) -> dict[str, Any]:
        """In OpenAI's shape."""
        kind = _KINDS.get(self.status) or (
            "server_error" if self.status >= 500 else "invalid_request_error"
        )
        return {
            "error": {
                "message": self.message,
                "type": kind,
                "param": self.param,
                "code": self.code,
            }
        }


_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    503: "unavailable_error",
}

_ARGUMENTS = frozenset(
    (
        *("messages", "tools", "tool_choice", "parallel_tool_calls", "stop", "json_schema"),
        *("grammar", "logprobs", "prompt", "text", "query", "documents"),
        *SamplingParams.__dataclass_fields__,
    )
)
_FIRST = re.compile(r"the tool|[a-z_]+")
"""What a message of the library begins with: the argument, if it is one."""


def as_refused(error: BridgeError, fields: Mapping[str, str] | None = None) -> Refused:
    """What a client is told of an error of the library.

    Args:
        error: the error.
        fields: names of the request's fields, by the names of the library's arguments, where they differ.
    """
    match error:
        case Busy():
            return Refused(503, str(error), code="busy", headers={"Retry-After": str(_RETRY)})
        case ContextOverflow():
            return Refused(400, _overflow(error), code="context_length_exceeded")
        case InvalidSchema():
            param = (fields or {}).get("json_schema", "response_format")
            return Refused(400, str(error), param=param, code="invalid_schema")
        case InvalidInput():
            return Refused(400, str(error), param=_param(error, fields or {}))
        case UnsupportedCapability():
            return Refused(400, str(error), param="model", code="unsupported_capability")
        case TemplateError():
            return Refused(400, str(error), param="messages", code="template_error")
        case InvalidToolCall():
            return Refused(500, str(error), code="invalid_tool_call")
        case Cancelled():
            return Refused(503, "the request was cancelled", code="cancelled")
        case ClosedError() | NoModel():
            return Refused(503, "the model is being unloaded", code="unavailable")
        case OutOfMemory():
            return Refused(503, "the model does not fit into memory now", code="out_of_memory")
        case SessionWriteError() | SessionsLocked():  # their messages have paths
            why = 'the server cannot keep responses now: ask with "store": false'
            return Refused(500, why, code="not_kept")
        case ModelError():  # its message has a path
            return Refused(500, "the model cannot be loaded", code="model_error")
        case _:
            return Refused(500, "the model failed while it worked", code="engine_error")


@contextmanager
def naming(fields: Mapping[str, str]) -> Generator[None, None, None]:
    """Name the request's own fields in what the library refuses.

    Args:
        fields: as in :func:`as_refused`.
    """
    try:
        yield
    except InvalidInput as error:
        raise as_refused(error, fields) from error


def _overflow(error: ContextOverflow) -> str:
    counted = f"{'at least ' * error.at_least}{error.needed} tokens"
    return f"{error.text or 'the request'} has {counted}, but the context holds {error.n_ctx}: shorten it"


def _param(error: InvalidInput, fields: Mapping[str, str]) -> str | None:
    found = _FIRST.match(str(error))
    first = found[0].replace("the tool", "tools") if found else ""
    return fields.get(first, first) if first in _ARGUMENTS else None


def refusal(refused: Refused) -> Response:
    """The answer that refuses."""
    return JSONResponse(refused.record, refused.status, headers=refused.headers)


async def on_error(_request: Request, error: Exception) -> Response:
    """Make an answer of any error, and a note in the log of one that nobody expected."""
    if isinstance(error, Refused):
        return refusal(error)
    if isinstance(error, BridgeError):
        refused = as_refused(error)
        if refused.status == 500:
            _log.error("a request failed: %s", error, exc_info=error)
        return refusal(refused)
    if isinstance(error, HTTPException):
        words = {404: "there is nothing at this address", 405: "this address takes another method"}
        message = words.get(error.status_code, error.detail)
        return refusal(Refused(error.status_code, message, headers=error.headers))
    _log.error("a request failed: %s", type(error).__name__, exc_info=error)
    return refusal(Refused(500, "the server failed, and its log says why"))
