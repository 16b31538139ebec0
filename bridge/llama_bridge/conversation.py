"""The calls of a conversation: the same on the bridge and on each session."""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from .capabilities import Capability
from .chat.message import Message
from .chatting import ChatCall, Chatting
from .checks import (
    NotCopied,
    check_callback,
    check_count,
    check_prompt,
    check_stops,
    check_text,
    shown,
)
from .errors import (
    ClosedError,
    FallbackWarning,
    InvalidInput,
    NoModel,
    ServerGone,
)
from .generation import Fallback, Generation
from .grammar import Grammar, JsonSchema
from .params import SamplingParams, SamplingSettings, override
from .progress import OnProgress
from .prompt import Prompt
from .refusal import refuse
from .request import Request
from .runtime import Runtime
from .stream import PendingAnswer, TextStream

if TYPE_CHECKING:
    from .chat.stream import ChatStream

__all__ = ["Conversation", "Shared", "warn_outside"]

T = TypeVar("T")

_MOST_LOGPROBS = 20


@dataclass(slots=True)
class Shared:
    """What a bridge and its sessions have in common.

    Attributes:
        runtime: what answers; None before a model is loaded.
        sampling: how tokens are drawn, unless a call says otherwise.
        system: system message at the start of every fresh chat, or None.
        on_progress: called in calls that give no function of their own, or None.
        closed: whether the bridge is closed.
        warned: whether the FallbackWarning was issued.
        fail_over: makes another runtime take over from one whose server is gone, or raises; None if that was not asked for.
        carried: what was said in conversations that another runtime is to go on with, by their names.
        said: the conversations that have a turn, because a runtime without continuation cannot tell: by name, whether raw
            text is a part of it.
        swapping: held while one runtime replaces another.
    """

    runtime: Runtime | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    system: str | None = None
    on_progress: OnProgress | None = None
    closed: bool = False
    warned: bool = False
    fail_over: Callable[[Runtime, ServerGone], None] | None = None
    carried: dict[str, tuple[Message, ...]] = field(default_factory=dict[str, tuple[Message, ...]])
    said: dict[str, bool] = field(default_factory=dict[str, bool])
    swapping: threading.RLock = field(default_factory=threading.RLock)

    def alive(self) -> Runtime:
        """The runtime that answers.

        Raises:
            ClosedError, NoModel.
        """
        if self.closed:
            raise ClosedError("this LlamaBridge is closed: make a new one")
        if self.runtime is None:
            raise NoModel("no model is loaded: call load_model(path) first")
        return self.runtime

    def do(self, needed: Capability, work: Callable[[Runtime], T], *, answers: bool = False) -> T:
        """Do something with a runtime that has the ``needed`` capabilities; ``answers`` if it starts an answer.

        Raises:
            UnsupportedCapability: names the first one that is missing.
            ClosedError, NoModel.
        """
        while True:
            runtime = self.alive()
            if needed not in runtime.capabilities:
                refuse(runtime, needed)
            try:
                return work(runtime)
            except ServerGone as error:
                if not answers or self.fail_over is None:
                    raise
                self.fail_over(runtime, error)
            except ClosedError:
                with self.swapping:  # another model replaced it and answers
                    if self.closed or self.runtime is runtime:
                        raise

    def asked(self, runtime: Runtime, name: str, *, raw: bool) -> None:
        """A conversation has a turn with a runtime."""
        # If another has taken over meanwhile, what was said is for that one.
        if self.runtime is runtime:
            self.said[name] = raw
            self.carried.pop(name, None)

    def forget(self, name: str) -> None:
        """Nothing that was said in a conversation counts any more."""
        self.said.pop(name, None)
        self.carried.pop(name, None)

    def tell_fallback(self) -> None:
        """Warn, once, that the backend cannot continue a conversation."""
        if not self.warned:
            warn_outside(str(Fallback.UNSUPPORTED))
            self.warned = True  # not reached if warnings are errors


class Conversation(NotCopied, Chatting):
    """The calls of one conversation.

    Every setting of :class:`SamplingParams` is a keyword of every call. It changes that setting and keeps the
    others, which come from ``sampling`` if that is given, and from the bridge if not.
    """

    def __init__(self, shared: Shared, name: str) -> None:
        self._shared = shared
        self._name = name

    def generate(
        self,
        prompt: str | Prompt,
        *,
        stop: str | Sequence[str] = (),
        chat: bool | None = None,
        json_schema: JsonSchema | None = None,
        grammar: str | None = None,
        logprobs: int | None = None,
        sampling: SamplingParams | None = None,
        on_progress: OnProgress | None = None,
        **settings: Unpack[SamplingSettings],
    ) -> Generation:
        """Start a new conversation: answer a prompt without what was said before.

        With ``Capability.PREFIX_CACHE``, the beginning that the prompt shares with the KV cache is not evaluated
        again.

        Args:
            prompt: what the user says, if the model has a chat template; otherwise raw text. A :class:`Prompt`, such as
                ``apply_chat_template`` gives, is always raw text. A string never becomes a control token.
            stop: strings that end the answer. They are not part of it. Not with ``json_schema`` or ``grammar``.
            chat: False for raw text, True to require the chat template.
            json_schema: what the answer must be: a JSON schema as a dict or as JSON text, True for any JSON value, or a
                pydantic model, dataclass or TypedDict. An answer that ends with ``"stop"`` always validates, and
                ``parsed`` is its value.
            grammar: what the answer must be, in llama.cpp's GBNF.
            logprobs: report how probable each token of the answer was, and this many of the best ones at its place, 0
                to 20.
            sampling: how tokens are drawn; None takes the bridge's settings.
            on_progress: called with the progress of the prefill, in the thread that computes; None takes the
                bridge's.
            settings: single settings of :class:`SamplingParams`, such as ``temperature=0``.

        Raises:
            InvalidInput, ContextOverflow, UnsupportedCapability, TemplateError, EngineError, ClosedError.
        """
        shape = _Shape(json_schema, grammar, logprobs)
        return self._ask(prompt, False, stop, chat, shape, sampling, on_progress, settings).result

    def generate_stream(
        self,
        prompt: str | Prompt,
        *,
        stop: str | Sequence[str] = (),
        chat: bool | None = None,
        json_schema: JsonSchema | None = None,
        grammar: str | None = None,
        logprobs: int | None = None,
        sampling: SamplingParams | None = None,
        on_progress: OnProgress | None = None,
        **settings: Unpack[SamplingSettings],
    ) -> TextStream:
        """Like :meth:`generate`, but the text arrives while it is generated. ``.result`` is the whole answer."""
        shape = _Shape(json_schema, grammar, logprobs)
        return self._ask(prompt, False, stop, chat, shape, sampling, on_progress, settings)

    def generate_continue(
        self,
        prompt: str | Prompt,
        *,
        stop: str | Sequence[str] = (),
        chat: bool | None = None,
        json_schema: JsonSchema | None = None,
        grammar: str | None = None,
        logprobs: int | None = None,
        sampling: SamplingParams | None = None,
        on_progress: OnProgress | None = None,
        **settings: Unpack[SamplingSettings],
    ) -> Generation:
        """Answer a prompt as the next turn of the conversation. Only what is new is evaluated.

        The first turn runs like :meth:`generate`: ``mode`` is ``Mode.FRESH`` and ``fallback`` is
        ``Fallback.NO_SESSION``. On a backend without ``KV_CONTINUATION`` every later turn does too: ``fallback`` is
        then ``Fallback.UNSUPPORTED``, and a FallbackWarning is issued once per bridge. Arguments and errors are
        those of :meth:`generate`.
        """
        shape = _Shape(json_schema, grammar, logprobs)
        return self._ask(prompt, True, stop, chat, shape, sampling, on_progress, settings).result

    def generate_continue_stream(
        self,
        prompt: str | Prompt,
        *,
        stop: str | Sequence[str] = (),
        chat: bool | None = None,
        json_schema: JsonSchema | None = None,
        grammar: str | None = None,
        logprobs: int | None = None,
        sampling: SamplingParams | None = None,
        on_progress: OnProgress | None = None,
        **settings: Unpack[SamplingSettings],
    ) -> TextStream:
        """Like :meth:`generate_continue`, but the text arrives while it is generated."""
        shape = _Shape(json_schema, grammar, logprobs)
        return self._ask(prompt, True, stop, chat, shape, sampling, on_progress, settings)

    def regenerate(
        self,
        *,
        stop: str | Sequence[str] = (),
        json_schema: JsonSchema | None = None,
        grammar: str | None = None,
        logprobs: int | None = None,
        sampling: SamplingParams | None = None,
        on_progress: OnProgress | None = None,
        **settings: Unpack[SamplingSettings],
    ) -> Generation:
        """Answer the last prompt again. The new answer replaces the old one; only one token is evaluated.

        Raises:
            UnsupportedCapability: the backend lacks ``SESSION_TOOLS``.
            InvalidInput: there is no prompt yet.
        """
        shape = _Shape(json_schema, grammar, logprobs)
        return self._ask(
            None, False, stop, None, shape, sampling, on_progress, settings, again=True
        ).result

    def regenerate_stream(
        self,
        *,
        stop: str | Sequence[str] = (),
        json_schema: JsonSchema | None = None,
        grammar: str | None = None,
        logprobs: int | None = None,
        sampling: SamplingParams | None = None,
        on_progress: OnProgress | None = None,
        **settings: Unpack[SamplingSettings],
    ) -> TextStream:
        """Like :meth:`regenerate`, but the text arrives while it is generated."""
        shape = _Shape(json_schema, grammar, logprobs)
        return self._ask(
            None, False, stop, None, shape, sampling, on_progress, settings, again=True
        )

    def _chat(self, call: ChatCall) -> ChatStream:
        """See :class:`Chatting`."""
        from .chat.stream import ChatStream, answer_message  # 10 ms with tools and json

        shared, wish = self._shared, call.wish
        sampling = self._drawn(call.sampling, call.settings)
        progress = check_callback("on_progress", call.on_progress) or shared.on_progress
        shape = _Shape(call.json_schema, call.grammar, call.logprobs)
        shape.check(call.stops)
        needed = Capability.TOOLS if wish.tools else Capability.CHAT_TEMPLATE
        if shape.grammar is not None:
            needed |= Capability.JSON_SCHEMA
        if shape.logprobs is not None:
            needed |= Capability.LOGPROBS

        def answer(runtime: Runtime) -> ChatStream:
            asked = runtime.ask(call.messages, wish)
            grammar = shape.grammar or asked.grammar
            always = grammar is not None and not grammar.lazy
            request = Request(
                prompt=asked.prompt,
                sampling=sampling,
                session=self._name,
                stop=() if always else (*call.stops, *asked.stops),
                grammar=grammar,
                schema=shape.schema,
                logprobs=shape.logprobs,
                on_progress=progress,
                keeps=asked.keeps,
                told=call.messages,
                reads=answer_message(asked.reader),
            )
            pending = runtime.answer(request)
            shared.asked(runtime, self._name, raw=False)
            return ChatStream(pending, asked, wish.tools, shape.parse)

        return shared.do(needed, answer, answers=True)

    def _drawn(self, sampling: SamplingParams | None, settings: SamplingSettings) -> SamplingParams:
        """How tokens are drawn in a call."""
        sampling = self._shared.sampling if sampling is None else sampling
        if not isinstance(sampling, SamplingParams):
            raise InvalidInput(f"sampling={shown(sampling)}: give a SamplingParams")
        return override(sampling, settings) if settings else sampling

    def _ask(
        self,
        prompt: str | Prompt | None,
        continues: bool,
        stop: str | Sequence[str],
        chat: bool | None,
        shape: _Shape,
        sampling: SamplingParams | None,
        on_progress: OnProgress | None,
        settings: SamplingSettings,
        *,
        again: bool = False,
    ) -> TextStream:
        """Check the arguments and pass a request to the runtime."""
        shared, needed = self._shared, Capability.GENERATE
        sampling = self._drawn(sampling, settings)
        stops = check_stops(stop)
        progress = check_callback("on_progress", on_progress) or shared.on_progress
        if not isinstance(chat, bool | None):
            raise InvalidInput(f"chat={shown(chat)}: give True, False or None")
        shape.check(stops)
        if again:
            needed |= Capability.SESSION_TOOLS
        elif chat:
            needed |= Capability.CHAT_TEMPLATE
        if shape.grammar is not None:
            needed |= Capability.JSON_SCHEMA
        if shape.logprobs is not None:
            needed |= Capability.LOGPROBS

        def answer(runtime: Runtime) -> PendingAnswer:
            as_chat = chat
            if as_chat is None:
                has_template = Capability.CHAT_TEMPLATE in runtime.capabilities
                as_chat = has_template and not isinstance(prompt, Prompt)
            if not again:
                check_prompt(prompt, as_chat)
            carried = shared.carried.get(self._name, ()) if continues else ()
            able = Capability.KV_CONTINUATION in runtime.capabilities
            fallback = None
            if continues and not able:
                said = self._name in shared.said or bool(runtime.past(self._name).tokens)
                fallback = Fallback.UNSUPPORTED if said else Fallback.NO_SESSION
            request = Request(
                prompt=prompt,
                sampling=sampling,
                session=self._name,
                stop=stops,
                chat=as_chat,
                continues=continues and able,
                system=shared.system,
                grammar=shape.grammar,
                schema=shape.schema,
                logprobs=shape.logprobs,
                fallback=fallback,
                on_progress=progress,
            )
            if carried and as_chat:
                request = _carried_on(runtime, request, carried)
            elif fallback is Fallback.UNSUPPORTED:
                shared.tell_fallback()
            answer = runtime.answer(request)
            raw = not as_chat or (request.continues and shared.said.get(self._name, False))
            shared.asked(runtime, self._name, raw=raw)
            return answer

        return TextStream(shared.do(needed, answer, answers=True), shape.parse)


def _carried_on(runtime: Runtime, request: Request, said: tuple[Message, ...]) -> Request:
    """A turn with all that was said before it, for a runtime that was not there then."""
    from .chat.form import ChatWish  # 10 ms with what reads answers
    from .chat.stream import answer_message

    messages = (*said, Message(role="user", content=str(request.prompt)))
    asked = runtime.ask(messages, ChatWish(shaped=request.grammar is not None))
    always = request.grammar is not None
    return replace(
        request,
        prompt=asked.prompt,
        chat=False,
        continues=False,
        stop=() if always else (*request.stop, *asked.stops),
        fallback=Fallback.FAILOVER,
        keeps=asked.keeps,
        told=messages,
        reads=answer_message(asked.reader),
    )


class _Shape:
    """What an answer must look like, and what is reported of its tokens.

    Attributes:
        grammar: the grammar that it follows, or None.
        schema: the JSON schema that it was made of, or None.
        parse: reads the value from the answer's text, or None.
        logprobs: how many of the best tokens to report, or None.
    """

    def __init__(
        self, json_schema: JsonSchema | None, grammar: str | None, logprobs: int | None
    ) -> None:
        self.grammar: Grammar | None = None
        self.schema: Any = None
        self.parse: Callable[[str], Any] | None = None
        self.logprobs = logprobs
        if json_schema is not None and grammar is not None:
            raise InvalidInput("json_schema and grammar exclude each other: give one of them")
        if json_schema is not None:
            from .structured import compile_schema  # 60 ms, for those who give one

            structured = compile_schema(json_schema)
            self.grammar, self.parse = Grammar(structured.grammar), structured.parse
            self.schema = structured.schema
        elif grammar is not None:
            from .structured import check_grammar  # 60 ms, too

            check_grammar(check_text("grammar", grammar))
            self.grammar = Grammar(grammar)
        if logprobs is not None and check_count("logprobs", logprobs) > _MOST_LOGPROBS:
            raise InvalidInput(
                f"logprobs={shown(logprobs)}: give a whole number from 0 to {_MOST_LOGPROBS}"
            )

    def check(self, stops: Sequence[str]) -> None:
        """Refuse stop strings together with a grammar: one that cuts an answer would leave half a value.

        Raises:
            InvalidInput.
        """
        if stops and self.grammar is not None:
            raise InvalidInput(
                "stop cannot be used with json_schema or grammar, which say themselves where the answer ends"
            )


def warn_outside(message: str) -> None:
    """Issue a FallbackWarning that points to the first caller outside this package's calls."""
    own = [f"{__package__}.{name}" for name in ("bridge", "conversation", "loading")]
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__") in own:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, FallbackWarning, stacklevel=level + 1)
