"""Whether an answer follows the schema that a server was given: some take one, and ignore it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llama_bridge.errors import EngineError
from llama_bridge.json_text import read_json

__all__ = ["Shape"]


@dataclass(frozen=True, slots=True)
class Shape:
    """A schema that an answer must follow.

    Attributes:
        schema: as it was sent.
    """

    schema: Mapping[str, Any] | bool

    def fits(self, text: str) -> bool:
        """Whether a text is JSON that validates."""
        from llama_bridge.structured.document import Document  # 60 ms, for those who give a schema
        from llama_bridge.structured.evaluate import Evaluator  # 60 ms, as above

        try:
            value: Any = read_json(text)
        except ValueError:
            return False
        document = Document(self.schema)
        try:
            return Evaluator(document).valid(value, document.root) is not False
        except RecursionError:
            return False

    def check(self, text: str) -> None:
        """Raise if an answer does not follow it.

        Raises:
            EngineError.
        """
        if not self.fits(text):
            raise EngineError(
                "the server took the JSON schema, but its answer does not follow it: "
                f"{text[:200]!r}. Its model or its settings cannot do that"
            )
