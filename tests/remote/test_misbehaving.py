"""Servers that refuse, hang, break off, lie, or are none. Each answer is told as what it is."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from llama_bridge import (
    AccessDenied,
    AnswerCutOff,
    AsyncLlamaBridge,
    BackendUnavailable,
    BridgeError,
    Busy,
    Capability,
    ContextOverflow,
    EngineError,
    InvalidInput,
    LlamaBridge,
    ModelLoadError,
    ModelNotFound,
    RateLimited,
)
from llama_bridge_remote import RemoteBackend, events

from .servers import Handler, Heard, Scripted, free_port, scripted

KEY = "sk-very-secret-7"
MODELS = {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "somebody"}]}


def chunk(text: str = "", finish: str | None = None, **delta: Any) -> dict[str, Any]:
    content = {"content": text} if text else {}
    choice = {"index": 0, "delta": {**content, **delta}, "finish_reason": finish}
    return {"object": "chat.completion.chunk", "choices": [choice]}


def talking(answer: Callable[[Heard, Handler], None]) -> Callable[[Heard, Handler], None]:
    """A server that can chat, and nothing else, whose chats are answered so. Its probe is answered properly."""

    def every(heard: Heard, handler: Handler) -> None:
        if heard.path == "/v1/models":
            handler.json(MODELS)
        elif heard.path != "/v1/chat/completions":
            handler.json({"error": {"message": "no such thing"}}, 404)
        elif heard.body.get("max_tokens") == 1:
            handler.begin_stream()
            handler.event(chunk("x", "length"))
            handler.event("[DONE]")
        elif "tools" in heard.body or "response_format" in heard.body:
            handler.json({"error": {"message": "not supported"}}, 400)
        else:
            answer(heard, handler)

    return every


def says(*texts: str, finish: str = "stop") -> Callable[[Heard, Handler], None]:
    def answer(_: Heard, handler: Handler) -> None:
        handler.begin_stream()
        for text in texts:
            handler.event(chunk(text))
        handler.event(chunk(finish=finish))
        handler.event("[DONE]")

    return answer


def bridge(script: Scripted, *, model: str | None = None, **how: Any) -> LlamaBridge:
    return LlamaBridge(script.url, model=model, backend=RemoteBackend(**{"timeout": 20, **how}))


# at load


def test_nobody_there() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(BackendUnavailable, match=url) as caught:
        LlamaBridge(url, backend="remote")
    assert "start it, or check the address" in str(caught.value)


@pytest.mark.parametrize("status", [200, 404, 500])
def test_a_web_page(status: int) -> None:
    page = b"<!doctype html><title>Welcome</title>"
    with (
        scripted(lambda _, handler: handler.raw(page, status)) as script,
        pytest.raises(ModelLoadError) as caught,
    ):
        bridge(script)
    assert script.url in str(caught.value)
    assert "web page" in str(caught.value)


def test_a_server_of_another_protocol() -> None:
    def answer(_: Heard, handler: Handler) -> None:
        handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n" * 20)
        handler.close_connection = True

    with scripted(answer) as script, pytest.raises(BackendUnavailable, match="does not answer"):
        bridge(script)


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_is_told_and_not_shown(status: int, caplog: pytest.LogCaptureFixture) -> None:
    def answer(heard: Heard, handler: Handler) -> None:
        said = f"Incorrect API key provided: {heard.headers['authorization'].split()[1]}"
        handler.json({"error": {"message": said, "code": "invalid_api_key"}}, status)

    caplog.set_level(logging.DEBUG)
    with scripted(answer) as script:
        with pytest.raises(AccessDenied, match="LLAMA_BRIDGE_API_KEY") as caught:
            bridge(script, api_key=KEY)
        assert script.heard[0].headers["authorization"] == f"Bearer {KEY}"
    error: BaseException | None = caught.value
    while error is not None:
        assert KEY not in str(error)
        assert KEY not in repr(error)
        error = error.__cause__ or error.__context__
    assert KEY not in caplog.text


def test_the_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_BRIDGE_API_KEY", KEY)
    with scripted(talking(says("hi"))) as script, bridge(script) as llama:
        llama.generate("x")
        assert {heard.headers["authorization"] for heard in script.heard} == {f"Bearer {KEY}"}
        assert KEY not in repr(llama)


def test_user_and_password_are_sent_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with scripted(talking(says("hi"))) as script:
        url = script.url.replace("//", "//me:hush@")
        with LlamaBridge(url, backend="remote") as llama:
            assert llama.generate("x").text == "hi"
            assert "hush" not in repr(llama)
        assert script.heard[-1].headers["authorization"].startswith("Basic ")
    assert "hush" not in caplog.text


def test_a_model_that_is_not_there() -> None:
    models = {"data": [{"id": "a"}, {"id": "b"}]}
    with scripted(lambda _, handler: handler.json(models)) as script:
        with pytest.raises(ModelNotFound, match="it has a, b") as caught:
            LlamaBridge(script.url, model="c", backend="remote")
        assert caught.value.there == ("a", "b")
        with pytest.raises(InvalidInput, match="give model= one of a, b"):
            LlamaBridge(script.url, backend="remote")


@pytest.mark.parametrize("models", [{}, [], None, "x", {"data": None}, {"data": {}}, {"data": []}])
def test_a_list_of_models_that_is_none(models: Any) -> None:
    with (
        scripted(lambda _, handler: handler.json(models)) as script,
        pytest.raises(ModelLoadError, match=r"models|no model"),
    ):
        bridge(script)


def test_a_server_that_sends_us_elsewhere_is_not_followed() -> None:
    """The key would go with it."""
    with scripted(
        lambda _, handler: handler.raw(b"", 307, Location="http://example.invalid/")
    ) as script:
        with pytest.raises(ModelLoadError, match=r"sends us on to 'http://example\.invalid/'"):
            bridge(script, api_key=KEY)
        assert len(script.heard) == 1


def test_flags_are_what_it_does() -> None:
    with scripted(talking(says("hi"))) as script, bridge(script) as llama:
        able = llama.capabilities
        assert Capability.GENERATE | Capability.STREAM | Capability.CHAT_TEMPLATE in able
        lacks = Capability.JSON_SCHEMA | Capability.TOOLS | Capability.EMBEDDINGS
        lacks |= Capability.KV_CONTINUATION | Capability.SESSION_PERSISTENCE | Capability.TOKENS
        assert not able & lacks


def test_settings_of_the_load_are_told_to_have_no_effect() -> None:
    with (
        scripted(talking(says("hi"))) as script,
        pytest.warns(UserWarning, match="n_threads, type_k had no effect"),
    ):
        LlamaBridge(script.url, backend="remote", n_threads=3, type_k="q8_0").close()


# answers


def test_an_answer_that_breaks_off_is_told_with_what_came() -> None:
    def answer(_: Heard, handler: Handler) -> None:
        handler.begin_stream()
        handler.event(chunk("One "))
        handler.event(chunk("two"))
        handler.close_connection = True

    with scripted(talking(answer)) as script, bridge(script) as llama:
        stream = llama.generate_stream("Count.")
        texts: list[str] = []
        with pytest.raises(AnswerCutOff, match="broke off after 7 characters") as caught:
            texts.extend(stream)
        assert caught.value.text == "One two"
        assert "One two".startswith("".join(texts))
        with pytest.raises(EngineError):
            _ = stream.result
        assert llama.session().messages == []
        with pytest.raises(AnswerCutOff):
            llama.generate("Count.")
        with pytest.raises(AnswerCutOff):
            llama.chat([{"role": "user", "content": "Count."}])
        chats = [heard for heard in script.heard if heard.path.endswith("completions")]
        assert len([heard for heard in chats if heard.body.get("max_tokens") == 512]) == 3


@pytest.mark.parametrize(
    "event", ["{", "[]", "7", '{"choices": [3]}', '{"error": {"message": "the GPU is gone"}}']
)
def test_an_event_that_makes_no_sense(event: str) -> None:
    def answer(_: Heard, handler: Handler) -> None:
        handler.begin_stream()
        handler.event(chunk("One"))
        handler.event(event)
        handler.event(chunk(" two", "stop"))

    with scripted(talking(answer)) as script, bridge(script) as llama:
        with pytest.raises(AnswerCutOff) as caught:
            llama.generate("x")
        assert caught.value.text == "One"
        if "GPU" in event:
            assert "the GPU is gone" in str(caught.value)


@pytest.mark.parametrize(
    "delta",
    [
        *({"content": 5}, {"content": [{"type": "text", "text": "x"}]}, {"content": {"a": 1}}),
        *({"tool_calls": "x"}, {"tool_calls": {"a": 1}}, {"reasoning_content": ["x"]}),
    ],
)
def test_words_and_calls_of_other_types_are_no_answer(delta: Any) -> None:
    def answer(_: Heard, handler: Handler) -> None:
        handler.begin_stream()
        handler.event(chunk("One"))
        handler.event({"choices": [{"delta": delta, "finish_reason": "stop"}]})

    with scripted(talking(answer)) as script, bridge(script) as llama:
        with pytest.raises(AnswerCutOff, match=r"that (is no text|are none|are no text)") as caught:
            llama.generate("x")
        assert caught.value.text == "One"


@pytest.mark.parametrize("half", [b'"\\ud83d"', b'"\\uDE00"', b'"\xed\xa0\xbd"', b'"\xff"'])
def test_half_of_a_character_is_no_text(half: bytes) -> None:
    """It would stand in the conversation, and no request can have it."""

    def answer(_: Heard, handler: Handler) -> None:
        handler.begin_stream()
        handler.event(chunk("One"))
        handler.wfile.write(b'data: {"choices": [{"delta": {"content": %s}}]}\n\n' % half)
        handler.event(chunk("two", "stop"))

    with scripted(talking(answer)) as script, bridge(script) as llama:
        with pytest.raises(AnswerCutOff, match=r"half of a character|no JSON"):
            llama.generate("x")
        assert llama.session().messages == []


@pytest.mark.parametrize("odd", ["x", {"a": 1}, [None], True, [[]], 1e999])
def test_a_load_survives_what_a_server_may_tell(odd: Any) -> None:
    """Whatever has the wrong type, it is an error of ours or does not matter."""
    deltas = [{"tool_calls": odd}, {"tool_calls": [{"function": odd}]}, {"content": odd}]
    for delta in deltas:

        def answer(heard: Heard, handler: Handler, delta: Any = delta) -> None:
            if heard.path == "/v1/models":
                handler.json({"data": [{"id": "m", "aliases": odd, "capabilities": odd}]})
            elif heard.path == "/v1/embeddings":
                handler.json({"data": [{"embedding": odd, "index": odd}]})
            elif "tools" in heard.body or "response_format" in heard.body:
                handler.begin_stream()
                handler.event({"choices": [{"delta": delta, "finish_reason": "stop"}]})
            else:
                says("hi")(heard, handler)

        with scripted(answer) as script, bridge(script, model="m") as llama:
            assert llama.generate("x").text == "hi"
            assert Capability.JSON_SCHEMA not in llama.capabilities


def test_an_event_that_never_ends_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is one line or many: it would fill the memory."""
    monkeypatch.setattr(events, "_LONGEST", 10_000)
    for piece in (b"x" * 100, b"data: x\n", b"data:\n"):
        pieces = (piece for _ in range(1_000_000))
        with pytest.raises(events.NoEvent, match="more than 10000 bytes"):
            next(events.read_events(pieces))


def test_line_breaks_of_unicode_are_text() -> None:
    said = "a\u2028b\u0085c\u000bd\x1ce"
    with scripted(talking(says(said, "é€😀"))) as script, bridge(script) as llama:
        assert llama.generate("x").text == f"{said}é€😀"


def test_events_in_strange_pieces() -> None:
    def answer(_: Heard, handler: Handler) -> None:
        handler.begin_stream()
        data = ': ping\r\n\r\ndata:{"choices":[{"delta":{"content":"é"}}]}\r\n\r\nevent: x\r\ndata: {"choices":\r\n'
        data += 'data: [{"delta":{},"finish_reason":"stop"}]}\r\n\r\ndata: [DONE]'
        for byte in data.encode():
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()

    with scripted(talking(answer)) as script, bridge(script) as llama:
        assert llama.generate("x").text == "é"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": {"message": "temperature must be less"}}, InvalidInput),
        (400, {"error": {"message": "long", "code": "context_length_exceeded"}}, InvalidInput),
        (
            400,
            {
                "error": {
                    "type": "exceed_context_size_error",
                    "message": "too large",
                    "n_prompt_tokens": 900,
                    "n_ctx": 512,
                }
            },
            ContextOverflow,
        ),
        (
            400,
            {
                "message": "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens"
            },
            ContextOverflow,
        ),
        (401, {"error": "no"}, AccessDenied),
        (404, {"error": {"message": 'model "m" not found, try pulling it first'}}, ModelNotFound),
        (422, {"detail": [{"loc": ["body"], "msg": "no"}]}, InvalidInput),
        (500, {"error": {"message": "out of memory"}}, EngineError),
        (500, "plain words", EngineError),
    ],
)
def test_what_a_server_refuses_is_told_when_it_is_asked(
    status: int, body: Any, kind: type[BridgeError]
) -> None:
    with (
        scripted(talking(lambda _, handler: handler.json(body, status))) as script,
        bridge(script) as llama,
    ):
        with pytest.raises(kind) as caught:
            llama.generate_stream("x")  # before anything is read
        assert type(caught.value) is kind
        if kind is ContextOverflow:
            assert (caught.value.needed, caught.value.n_ctx) in ((900, 512), (5000, 4096))  # type: ignore[attr-defined]


def test_not_now_is_tried_again_and_then_told() -> None:
    times: list[float] = []

    def answer(heard: Heard, handler: Handler) -> None:
        times.append(time.monotonic())
        if len(times) < 3:
            handler.json({"error": {"message": "loading model", "code": 503}}, 503)
        else:
            says("at last")(heard, handler)

    with scripted(talking(answer)) as script, bridge(script) as llama:
        assert llama.generate("x").text == "at last"
    assert times[1] - times[0] >= 0.15
    assert times[2] - times[1] > times[1] - times[0]


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (503, {"message": "the model is busy: 64 calls wait already", "code": "busy"}, Busy),
        (429, {"message": "slow down"}, RateLimited),
    ],
)
def test_a_server_that_stays_busy(
    status: int, error: dict[str, str], kind: type[BridgeError]
) -> None:
    def answer(_: Heard, handler: Handler) -> None:
        handler.json({"error": error}, status, Retry_After="60")

    with scripted(talking(answer)) as script, bridge(script) as llama:
        began = time.monotonic()
        with pytest.raises(kind):
            llama.generate("x")
        assert time.monotonic() - began < 5, "a minute is too long to wait for: the caller decides"


def test_a_question_that_arrived_is_not_asked_twice() -> None:
    def answer(_: Heard, handler: Handler) -> None:
        handler.close_connection = True  # the server died with it

    with scripted(talking(answer)) as script, bridge(script) as llama:
        before = len(script.heard)
        with pytest.raises(EngineError, match="does not answer"):
            llama.generate("x")
        assert len(script.heard) == before + 1


def test_a_server_that_says_nothing_is_given_up() -> None:
    def answer(_: Heard, handler: Handler) -> None:
        handler.begin_stream()
        handler.event(chunk("Well"))
        time.sleep(2)

    with scripted(talking(answer)) as script, bridge(script, timeout=0.5) as llama:
        with pytest.raises(AnswerCutOff, match="says nothing") as caught:
            llama.generate("x")
        assert caught.value.text == "Well"


def test_a_load_of_a_server_that_says_nothing_ends_with_its_task() -> None:
    heard, woken = threading.Event(), threading.Event()

    def silent(_: Heard, handler: Handler) -> None:
        heard.set()
        woken.wait(30)

    async def load(url: str) -> float:
        llama = AsyncLlamaBridge(url, backend=RemoteBackend(timeout=600))
        task = asyncio.ensure_future(llama.generate("hi"))
        await asyncio.to_thread(heard.wait, 20)
        clock = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - clock

    with scripted(silent) as script:
        took = asyncio.run(load(script.url))
        woken.set()
    assert took < 5


def test_cancel_hangs_up() -> None:
    reading = threading.Event()

    def answer(_: Heard, handler: Handler) -> None:
        handler.begin_stream()
        for i in range(2000):
            handler.event(chunk(f"{i} "))
            reading.set()
            time.sleep(0.005)

    with scripted(talking(answer)) as script, bridge(script) as llama:
        stream = llama.generate_stream("x")
        first = next(stream)
        assert reading.wait(5)
        began = time.monotonic()
        llama.cancel()
        assert stream.result.finish_reason == "cancelled"
        assert stream.result.text.startswith(first)
        assert time.monotonic() - began < 0.5
        assert script.gone.wait(5), "the server still answers"
        assert [message["role"] for message in llama.session().messages] == ["user", "assistant"]


def test_cancel_before_the_first_word_hangs_up_too() -> None:
    asked, done = threading.Event(), threading.Event()

    def answer(_: Heard, handler: Handler) -> None:
        asked.set()
        handler.connection.settimeout(10)
        if not handler.connection.recv(1):
            done.set()

    with scripted(talking(answer)) as script, bridge(script) as llama:
        results: list[str] = []
        thread = threading.Thread(target=lambda: results.append(llama.generate("x").finish_reason))
        thread.start()
        assert asked.wait(5)
        llama.cancel()
        thread.join(5)
        assert results == ["cancelled"]
        assert done.wait(5), "the connection is still open"


# what is not done is told


@pytest.mark.parametrize(
    "settings",
    [
        {"top_k": 5},
        {"min_p": 0.2},
        {"repeat_penalty": 1.2},
        {"mirostat": 2},
        {"dry_multiplier": 0.5},
        {"xtc_probability": 0.1},
        {"dry_sequence_breakers": ("x",)},
        {"logit_bias": {"word": 1.0}},
        {"logit_bias": {3: 200.0}},
        {"repeat_penalty": 1.2, "temperature": 0},
    ],
)
def test_a_setting_that_the_server_does_not_have_is_refused(settings: dict[str, Any]) -> None:
    with scripted(talking(says("hi"))) as script, bridge(script) as llama:
        before = len(script.heard)
        with pytest.raises(InvalidInput, match=next(iter(settings))):
            llama.generate("x", **settings)
        assert len(script.heard) == before


def test_settings_that_it_has_are_sent() -> None:
    with scripted(talking(says("hi"))) as script, bridge(script) as llama:
        llama.system = "Be brief."
        answer = llama.generate(
            "x", temperature=0.5, top_p=0.5, seed=7, max_tokens=9, stop=["!"], logit_bias={3: 2}
        )
        body = script.heard[-1].body
        assert answer.seed == body["seed"] == 7
        assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.5, 0.5, 9)
        assert (body["stop"], body["logit_bias"]) == (["!"], {"3": 2.0})
        assert [message["role"] for message in body["messages"]] == ["system", "user"]
        llama.generate("x", temperature=0, top_k=1, min_p=0.3)  # no effect at 0: nothing to refuse


def test_a_stop_string_that_the_server_ignored_is_told() -> None:
    with (
        scripted(talking(says("one STOP two"))) as script,
        bridge(script) as llama,
        pytest.raises(EngineError, match="ignored stop"),
    ):
        llama.generate("x", stop="STOP")


def test_a_router_gets_the_same_id_for_a_conversation() -> None:
    with scripted(talking(says("hi"))) as script, bridge(script) as llama:
        llama.generate("x")
        llama.chat([{"role": "user", "content": "x"}])
        ids = [heard.headers["x-session-id"] for heard in script.heard[-2:]]
        assert ids[0] == ids[1]
        llama.session_reset()
        llama.generate("x")
        assert script.heard[-1].headers["x-session-id"] != ids[0]


def test_it_says_openly_that_it_does_not_continue() -> None:
    with scripted(talking(says("hi"))) as script, bridge(script) as llama:
        llama.generate("My name is Ada.")
        with pytest.warns(UserWarning, match="kv_continuation"):
            answer = llama.generate_continue("What is my name?")
        assert (answer.mode.value, str(answer.fallback)[:12]) == ("fresh", "this backend")
        assert len(script.heard[-1].body["messages"]) == 1


def until(done: Callable[[], bool]) -> bool:
    end = time.monotonic() + 5
    while not done() and time.monotonic() < end:
        time.sleep(0.01)
    return done()


def test_streams_that_are_dropped_leave_nothing() -> None:
    def answer(_: Heard, handler: Handler) -> None:
        handler.begin_stream()
        for i in range(500):
            handler.event(chunk(f"{i} "))
            time.sleep(0.002)

    with scripted(talking(answer)) as script, bridge(script) as llama:
        runtime: Any = llama._shared.runtime
        for _ in range(5):
            stream = llama.generate_stream("x")
            next(stream)
            del stream
        assert until(lambda: not runtime._answers)
        assert until(lambda: all("remote answer" not in t.name for t in threading.enumerate()))


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="Windows has no pthread_kill")
def test_ctrl_c_ends_an_answer_wherever_it_is() -> None:
    held = threading.Event()

    def answer(heard: Heard, handler: Handler) -> None:
        held.set()
        if "wait" in str(heard.body["messages"]):
            handler.connection.settimeout(10)
            handler.connection.recv(1)  # until the client hangs up
            return
        handler.begin_stream()
        for i in range(1000):
            handler.event(chunk(f"{i} "))
            time.sleep(0.005)

    def press() -> None:
        assert held.wait(5)
        time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with scripted(talking(answer)) as script, bridge(script) as llama:
        runtime: Any = llama._shared.runtime
        for prompt in ("wait", "talk"):
            held.clear()
            thread = threading.Thread(target=press)
            thread.start()
            with pytest.raises(KeyboardInterrupt):
                llama.generate(prompt)
            thread.join()
            assert until(lambda: not runtime._answers), "the server is still asked"
            assert script.gone.wait(5) or prompt == "wait"
        script.answer = talking(says("hi"))
        assert llama.generate("x").text == "hi"
