"""The runtime for ``llama-bridge serve``: conversations that go on from the server's responses, and all settings."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from llama_bridge.capabilities import Capability
from llama_bridge.errors import NoSession
from llama_bridge.grammar import Grammar
from llama_bridge.params import SamplingParams
from llama_bridge.progress import OnProgress
from llama_bridge.request import Request
from llama_bridge.snapshot import SessionInfo
from llama_bridge.verification import Verification

from ..answer import Question
from ..client import Refused
from ..remote_runtime import Kept
from . import response_file
from .branches import BranchingRuntime
from .fields import all_settings, as_items, text_of
from .replies import ResponseReply

__all__ = ["BridgeServerRuntime"]

_log = logging.getLogger(__name__)


class BridgeServerRuntime(BranchingRuntime):
    """Answers over ``llama-bridge serve``.

    A turn is a response there, and its id is what the next turn goes on from: the server has its KV cache. If it has
    forgotten the response, all that was said is sent again, and evaluated there as far as it has to be.
    """

    dialect = "llama-bridge serve"
    limit = "max_completion_tokens"

    def settings(self, request: Request, seed: int, limit: str) -> dict[str, Any]:
        """See :meth:`OpenAIRuntime.settings`."""
        return all_settings(request.sampling, seed, limit)

    def shaped(self, request: Request) -> dict[str, Any]:
        """See :meth:`OpenAIRuntime.shaped`. The grammar is made here, so that it is the same everywhere."""
        grammar: Grammar | None = request.grammar
        return {} if grammar is None else {"grammar": grammar.text}

    def probabilities(self, request: Request) -> dict[str, Any]:
        """See :meth:`OpenAIRuntime.probabilities`."""
        return (
            {} if request.logprobs is None else {"logprobs": True, "top_logprobs": request.logprobs}
        )

    def turn_question(self, request: Request, kept: Kept, headers: Mapping[str, str]) -> Question:
        """A user's turn, as a response."""
        keeps = Capability.KV_CONTINUATION in self.capabilities
        if not keeps:
            return super().turn_question(request, kept, headers)
        said = self.said(request, kept)
        asked = self.asked(request, kept)
        body: dict[str, Any] = {"model": self.name, "stream": True, "store": True}
        body |= self.settings(request, asked.seed, "max_output_tokens") | self.shaped(request)
        if request.stop:
            body["stop"] = list(request.stop)
        if request.logprobs is not None:
            body["top_logprobs"] = request.logprobs
        whole = said
        if (
            said[0]["role"] == "system"
        ):  # it holds for one response, and is no part of what the server keeps
            body["instructions"] = text_of(said[0])
            whole = said[1:]

        def question(more: dict[str, Any], *, again: bool) -> Question:
            reply = ResponseReply(asked)
            commit = self.committing(
                request, kept, said, lambda is_whole: reply.id if is_whole else ""
            )
            return Question(
                "/v1/responses", body | more, reply, headers, commit, again_with if again else None
            )

        def again_with(refused: Refused) -> Question | None:
            if refused.refusal.param != "previous_response_id":
                return None
            _log.info("%s: %s; all that was said is sent again", self.client.url, refused)
            return question({"input": as_items(whole)}, again=False)

        if kept.response:
            new = {"input": as_items(said[-1:]), "previous_response_id": kept.response}
            return question(new, again=True)
        return question({"input": as_items(whole)}, again=False)

    # session files

    def why_not(self, flag: Capability) -> str:
        """See :meth:`Runtime.why_not`."""
        if flag is Capability.SESSION_PERSISTENCE and Capability.SESSION_TOOLS in self.capabilities:
            return "the server keeps no responses over restarts: start it with --sessions-dir"
        return ""

    def save(
        self, session: str, path: str | os.PathLike[str], sampling: SamplingParams
    ) -> SessionInfo:
        """See :meth:`Runtime.save`. The file names the server's responses, which have the KV cache."""
        self.needs(Capability.SESSION_PERSISTENCE)
        kept = self.settled(session).kept
        if not kept.begun:
            raise NoSession("there is no conversation to save: generate something first")
        return response_file.save(path, self.client, self.name, kept)

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
        saved = response_file.read(path)
        loaded = response_file.load(saved, self.client, self.name, replay=replay)
        with self.lock:
            place.kept = loaded.kept
        return loaded.info

    def verify(
        self, path: str | os.PathLike[str], *, deep: bool, on_progress: OnProgress | None
    ) -> Verification:
        """See :meth:`Runtime.verify`. Whether the server's own files are whole is known once the conversation goes on."""
        self.needs(Capability.SESSION_PERSISTENCE)
        return response_file.verify(response_file.read(path), self.client, self.name)
