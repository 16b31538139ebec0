"""The runtime for llama-server: prompts as tokens, and the slots that keep what was evaluated."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llama_bridge.capabilities import Capability
from llama_bridge.chat.form import ChatPrompt, ChatWish, ToolForm
from llama_bridge.chat.message import Message
from llama_bridge.engine import EngineInfo
from llama_bridge.errors import BridgeError, EngineError, NoSession
from llama_bridge.generation import Generation, Mode
from llama_bridge.local.turn import Turn, is_fresh, plan_fresh, plan_next
from llama_bridge.params import SamplingParams
from llama_bridge.progress import OnProgress
from llama_bridge.prompt import Prompt
from llama_bridge.request import Request
from llama_bridge.snapshot import SessionInfo, TurnMark
from llama_bridge.verification import Verification

from ..answer import Question
from ..client import Client, Refused
from ..events import as_object
from ..remote_runtime import Kept, new_seed
from ..vector_calls import VectorCalls
from . import slot_file
from .facts import Facts, read_facts
from .fields import grammar_fields, sampling_fields
from .reply import Asked, CompletionReply
from .spelling import ServerSpelling
from .vocabulary import Vocabulary

__all__ = ["LlamaServerRuntime"]


@dataclass(frozen=True, slots=True)
class _Model:
    """The server's model, and what spells for it."""

    facts: Facts
    vocabulary: Vocabulary
    spelling: ServerSpelling


class LlamaServerRuntime(VectorCalls):
    """Answers over llama-server.

    The conversation is kept here as tokens. Each turn sends all of them, and the server takes the free slot that holds most
    of it: if somebody else has used that slot, the turn costs more, and is right all the same. No slot is asked for by its
    number: one that is answering somebody else then loses what it computes (llama.cpp, to b11549 at least).

    Args:
        client, name, capabilities: as for :class:`RemoteRuntime`.
        facts: what the server is.
        vocabulary: of its model.
    """

    dialect = "llama-server"
    waits = False

    def __init__(
        self,
        client: Client,
        name: str,
        capabilities: Capability,
        facts: Facts,
        vocabulary: Vocabulary,
    ) -> None:
        super().__init__(client, name, capabilities)
        self._model = _Model(facts, vocabulary, ServerSpelling(vocabulary, facts))
        self._slots: dict[
            str, int
        ] = {}  # where each conversation was last: its file is loaded there
        self._n_connected = client.n_connected  # when the server was last looked at closely

    # text and tokens

    @property
    def info(self) -> EngineInfo:
        """See :attr:`Runtime.info`."""
        self._check_open()
        return self._model.vocabulary.info

    def tokenize(self, text: str | Prompt, *, add_special: bool, parse_special: bool) -> list[int]:
        """See :meth:`Runtime.tokenize`."""
        self._check_open()
        model = self._model
        if isinstance(text, Prompt):
            return model.spelling.tokenize(text)
        return model.vocabulary.tokens_now(
            text, add_special=add_special, parse_special=parse_special
        )

    def token_bytes(self, token: int) -> bytes:
        """See :meth:`Runtime.token_bytes`."""
        self._check_open()
        return self._model.vocabulary.token_bytes(token)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> Prompt:
        """See :meth:`Runtime.render`."""
        self._check_open()
        return self._current(Kept()).spelling.render(
            messages, add_generation_prompt=add_generation_prompt
        )

    def ask(self, messages: Sequence[Message], wish: ChatWish) -> ChatPrompt:
        """See :meth:`Runtime.ask`."""
        self._check_open()
        return self._model.spelling.ask(messages, wish)

    @property
    def tool_form(self) -> ToolForm | None:
        """See :attr:`Runtime.tool_form`."""
        template = self._model.spelling.template
        return None if template is None else template.tool_form

    # the model may be another one by now

    def _current(self, kept: Kept, *, look_closely: bool = False) -> _Model:
        """The server's model now.

        It is looked at closely where the server may have been started anew: then its file may have the same name as before.

        Raises:
            EngineError: it is another one than the conversation was held with.
        """
        model = self._model
        facts = self._facts(None if look_closely else model.facts)
        now = facts.identity
        if now != model.facts.identity:
            vocabulary = Vocabulary(self.client, facts)
            self._model = model = _Model(facts, vocabulary, ServerSpelling(vocabulary, facts))
            self._slots.clear()
        before = kept.identity if kept.begun else now
        if before != now:
            field = next(field for field in now if now[field] != before.get(field))
            raise EngineError(
                f"the server {self.client.url} has another model than before ({field} was {before.get(field)!r}, now it is "
                f"{now[field]!r}): the conversation cannot go on. Call session_reset(), or ask for the model again"
            )
        return model

    def _facts(self, known: Facts | None = None) -> Facts:
        try:
            facts = read_facts(self.client, known=known)
            if self.client.n_connected != self._n_connected:
                facts = read_facts(self.client)
                self._n_connected = self.client.n_connected
            return facts
        except Refused as refused:
            raise self.client.error_of(refused.refusal, self.name) from refused

    # answers

    def question(self, request: Request, kept: Kept, headers: Mapping[str, str]) -> Question:
        """See :meth:`RemoteRuntime.question`."""
        model = self._model
        try:
            return self._planned(request, kept, headers, model)
        except BridgeError:
            now = self._current(kept)
            if now is model:
                raise
        return self._planned(request, kept, headers, now)

    def _planned(
        self, request: Request, kept: Kept, headers: Mapping[str, str], model: _Model
    ) -> Question:
        """A question for this model. While the server works on it, it is asked whether that is still the one it has."""
        spelling = model.spelling
        if is_fresh(request) or not kept.tokens:
            turn = plan_fresh(request, spelling)
        else:
            turn = plan_next(request, spelling, kept.tokens, kept.messages)
        before = () if turn.fresh else kept.tokens
        prompt = [*before, *turn.tokens]
        sampling = spelling.by_ids(request.sampling)
        asked = Asked(
            Mode.FRESH if turn.fresh else Mode.CONTINUED,
            turn.fallback,
            new_seed(sampling),
            len(prompt),
            request.logprobs,
            request.on_progress,
        )
        reply = CompletionReply(asked, model.vocabulary)
        room = model.facts.n_ctx - len(prompt)
        body: dict[str, Any] = {
            "prompt": prompt,
            "stream": True,
            "cache_prompt": True,
            "return_tokens": True,
            "timings_per_token": True,
            "return_progress": request.on_progress is not None,
            "n_predict": min(room, sampling.max_tokens or room),
            **sampling_fields(sampling, asked.seed, model.facts.n_ctx),
            **grammar_fields(request.grammar),
        }
        if request.stop:
            body["stop"] = list(request.stop)
        if request.keeps:
            body["preserved_tokens"] = list(request.keeps)
        if request.logprobs is not None:
            body["n_probs"] = max(1, request.logprobs)

        def commit(generation: Generation | None, cut_at: int | None) -> None:
            if generation is None or (cut_at is not None and not generation.text):
                return
            self._commit(request, turn, kept, prompt, reply, generation, cut_at, model)

        return Question(
            "/completion",
            body,
            reply,
            headers,
            commit,
            holds=lambda: self._current(kept) is model,
        )

    def _commit(
        self,
        request: Request,
        turn: Turn,
        kept: Kept,
        prompt: list[int],
        reply: CompletionReply,
        generation: Generation,
        cut_at: int | None,
        model: _Model,
    ) -> None:
        before = Kept() if turn.fresh else kept
        messages = before.messages
        if turn.messages:
            if request.reads is None:
                answer = Message(role="assistant", content=generation.text)
            else:
                cut = generation.finish_reason != "stop"
                answer = Message(request.reads(generation.text, cut))
            messages = (*turn.messages, answer)
        mark = TurnMark(len(before.tokens), len(prompt), len(before.messages))
        tokens = (*prompt, *reply.tokens(generation.text, cut_at))
        self._slots[request.session] = max(0, reply.slot)
        self.keep(
            request.session,
            Kept(
                messages=messages,
                tokens=tokens,
                turns=(*before.turns, mark),
                sampling=request.sampling,
                identity=model.facts.identity,
            ),
        )

    # session files

    def why_not(self, flag: Capability) -> str:
        """See :meth:`Runtime.why_not`."""
        if (
            flag is Capability.SESSION_PERSISTENCE
            and Capability.KV_CONTINUATION in self.capabilities
        ):
            return "the server keeps no slots: start it with --slot-save-path"
        return ""

    def save(
        self, session: str, path: str | os.PathLike[str], sampling: SamplingParams
    ) -> SessionInfo:
        """See :meth:`Runtime.save`. The server writes its slot to a file of its own, which this file names."""
        self.needs(Capability.SESSION_PERSISTENCE)
        kept = self.settled(session).kept
        if not kept.tokens:
            raise NoSession("there is no conversation to save: generate something first")
        model = self._current(kept, look_closely=True)

        def held() -> int:
            slot = self._slots[session] = self._held(kept)
            return slot

        return slot_file.save(path, self.client, model.facts, held, kept, sampling)

    def _held(self, kept: Kept) -> int:
        """The slot that holds the conversation, which may have to be evaluated again: somebody else may have used its slot."""
        body = {
            "prompt": list(kept.tokens),
            "n_predict": 0,
            "cache_prompt": True,
            "temperature": 0,
        }
        answer = self.posted("/completion", body)
        found: object = as_object(answer).get("id_slot")
        if not isinstance(found, int):
            raise EngineError("the server does not tell which slot has the conversation")
        return found

    def load(
        self,
        session: str,
        path: str | os.PathLike[str],
        *,
        replay: bool,
        trust_unverified: bool,
        on_progress: OnProgress | None,
    ) -> SessionInfo:
        """See :meth:`Runtime.load`. With ``replay`` the conversation is evaluated by its next turn."""
        self.needs(Capability.SESSION_PERSISTENCE)
        place = self.settled(session)
        model = self._current(Kept(), look_closely=True)
        saved = slot_file.read(path)
        slot = self._slots.get(session, 0)
        loaded = slot_file.load(saved, self.client, model.facts, slot, replay=replay)
        kept = loaded.kept
        if loaded.by_messages:
            planned = model.spelling.plan_messages(kept.messages)
            kept = Kept(planned.messages, "", planned.tokens, planned.turns)
        self._slots[session] = slot
        with self.lock:
            place.kept = replace(kept, identity=model.facts.identity)
        return loaded.info

    def verify(
        self, path: str | os.PathLike[str], *, deep: bool, on_progress: OnProgress | None
    ) -> Verification:
        """See :meth:`Runtime.verify`. The server's own file is only known to be there once it is loaded."""
        self.needs(Capability.SESSION_PERSISTENCE)
        return slot_file.verify(slot_file.read(path), self.client, self._facts())
