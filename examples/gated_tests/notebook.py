"""The application under test: it asks a model about notes, and keeps the conversation if it can."""

from __future__ import annotations

from pathlib import Path

from llama_bridge import Capability, EngineError, LlamaBridge


class Notebook:
    """A conversation about notes.

    Attributes:
        can_be_kept: whether it can survive a restart; check it before you offer a Save button.
    """

    def __init__(self, llama: LlamaBridge) -> None:
        self._llama = llama
        self.can_be_kept = Capability.SESSION_PERSISTENCE in llama.capabilities
        self._remembers = Capability.KV_CONTINUATION in llama.capabilities
        self._said: list[str] = []

    def tell(self, note: str) -> str:
        """Say something, and get an answer that takes earlier notes into account."""
        try:
            if self._remembers:
                return self._llama.generate_continue(note).text
            return self._llama.generate("\n".join([*self._said, note])).text
        except EngineError as error:
            return f"Sorry, that went wrong: {error}"
        finally:
            self._said.append(note)

    def keep(self, path: Path) -> None:
        """Save the conversation."""
        self._llama.session_save(path)

    def reopen(self, path: Path) -> None:
        """Continue a saved conversation."""
        self._llama.session_load(path)
