"""One conversation at the terminal or in a pipe: messages in, answers and remarks out."""

from __future__ import annotations

from collections.abc import Callable

from ..bridge import LlamaBridge
from ..capabilities import Capability
from ..generation import Generation
from .remembered import remembered
from .streaming import Texts, cost, ending, stream_answer
from .terminal import Terminal
from .typed_ahead import TypedAhead

__all__ = ["Talk"]


class Talk:
    """The state of one chat.

    Attributes:
        llama: what answers.
        terminal: where it is shown.
        past: what it remembers: the current conversation and the others.
        confirm: asks a yes-or-no question; if there is nobody to ask, the answer is yes.
        last: the last answer, or None.
        failed: whether a message or command failed.
        interrupted: whether Ctrl-C stopped the last answer.
    """

    def __init__(
        self, llama: LlamaBridge, terminal: Terminal, confirm: Callable[[str], bool]
    ) -> None:
        self.llama = llama
        self.terminal = terminal
        self.past = remembered(llama)
        self.confirm = confirm
        self.last: Generation | None = None
        self.failed = False
        self.interrupted = False

    def greet(self) -> None:
        """Say which model this is, and what to know before the first question."""
        llama, note = self.llama, self.terminal.note
        if self.terminal.interactive:
            about = llama.where or f"{llama.model_name} on {llama.backend}"
            if Capability.TOKENS in llama.capabilities:
                about += f", context {llama.info.n_ctx:,} tokens"
            note(f"{about}. /help lists the commands, Ctrl-D leaves.", "dim")
        if Capability.CHAT_TEMPLATE not in llama.capabilities:
            note("This model has no chat template: it continues your text instead of answering it.")

    def say(self, text: str) -> None:
        """Answer a message."""
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fail(f"that line is not {self.terminal.encoding.upper()} text")
            return
        self.answer(lambda: self.past.ask(text))

    def answer(self, start: Callable[[], Texts]) -> None:
        """Show an answer as it arrives, and what it cost.

        Raises:
            BridgeError: there is no answer, or not a whole one.
        """
        keys = TypedAhead()
        if self.terminal.interactive:
            keys.hold()
        try:
            self.last = stream_answer(self.llama, self.terminal, start, keys=keys)
            self.past.answered(self.last)
            self.terminal.write("\n")
        finally:
            keys.release()
            self.terminal.end_line()
        self.interrupted = self.last.finish_reason == "cancelled"
        why = ending(self.last, self.llama.sampling.max_tokens)
        if self.terminal.interactive:
            self.terminal.note((f"[{why}] " if why else "") + cost(self.last.usage) + "\n", "dim")
        elif why and not self.interrupted:
            self.terminal.note(f"note: {why}")

    def fail(self, message: str) -> None:
        """Say what went wrong. The conversation goes on."""
        self.failed = True
        self.terminal.error(message)
