"""The runtime for any server with OpenAI's interface: vLLM, Ollama, Ray Serve, LM Studio, SGLang, OpenAI's own."""

from __future__ import annotations

from typing import Any

from llama_bridge.capabilities import Capability
from llama_bridge.errors import InvalidInput
from llama_bridge.request import Request

from ..client import Client
from .asking import OpenAIRuntime
from .fields import some_settings
from .shape import Shape

__all__ = ["AnyServerRuntime"]

_MORE = {"vllm": ("top_k", "min_p"), "sglang": ("top_k", "min_p")}
"""Settings that a server has besides OpenAI's, with the same meaning, by who it says owns its models."""


class AnyServerRuntime(OpenAIRuntime):
    """Answers over any server with OpenAI's interface. It keeps no conversations.

    Args:
        client, name, capabilities: as for :class:`RemoteRuntime`.
        owner: who the server says owns the model.
    """

    dialect = "OpenAI's interface"

    def __init__(self, client: Client, name: str, capabilities: Capability, owner: str) -> None:
        super().__init__(client, name, capabilities)
        self._known = _MORE.get(owner.lower(), ())

    def settings(self, request: Request, seed: int, limit: str) -> dict[str, Any]:
        """See :meth:`OpenAIRuntime.settings`."""
        return some_settings(request.sampling, seed, limit, self._known)

    def shaped(self, request: Request) -> dict[str, Any]:
        """See :meth:`OpenAIRuntime.shaped`."""
        if request.grammar is None:
            return {}
        if request.schema is None:
            raise InvalidInput(
                "grammar: a server with OpenAI's interface takes JSON schemas alone: give json_schema=, or use "
                "llama-server or `llama-bridge serve`"
            )
        if not request.chat and not request.told:
            raise InvalidInput("json_schema: this server shapes chats alone, no raw text")
        return schema_field(request.schema)

    def checked_shape(self, request: Request) -> Shape | None:
        """See :meth:`OpenAIRuntime.checked_shape`."""
        return None if request.schema is None else Shape(request.schema)


def schema_field(schema: Any) -> dict[str, Any]:
    """A JSON schema as ``response_format``."""
    given: Any = {} if schema is True else schema
    form: dict[str, Any] = {"name": "answer", "schema": given, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": form}}
