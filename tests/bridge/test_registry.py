"""Explicit object > explicit name > environment > rank; what is broken is reported and never fatal."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from importlib import metadata

import pytest

from llama_bridge import (
    Availability,
    BackendUnavailable,
    Capability,
    InvalidInput,
    LlamaBridge,
    UnsupportedCapability,
    registry,
)
from llama_bridge.testing import FakeBackend, FakeEngine, FakeLlama

USABLE = [*(["native"] if importlib.util.find_spec("llama_cpp") else []), "wasm"]
"""The own backends that can be used here, best first."""


class Entry:
    """An entry point without a distribution behind it."""

    def __init__(self, name: str, made: object) -> None:
        self.name = name
        self.value = f"some_package:{name}"
        self._made = made

    def load(self) -> object:
        if isinstance(self._made, Exception):
            raise self._made
        return self._made


@pytest.fixture(autouse=True)
def fresh_registry() -> Iterator[None]:
    registry.backends.cache_clear()
    yield
    registry.backends.cache_clear()


def install(monkeypatch: pytest.MonkeyPatch, *more: Entry) -> None:
    real = metadata.entry_points

    def entry_points(*, group: str) -> list[object]:
        return [*real(group=group), *(more if group == registry.GROUP else ())]

    monkeypatch.setattr(metadata, "entry_points", entry_points)


def test_our_own_backends_are_found_in_order_of_rank() -> None:
    assert [b.name for b in registry.backends()] == ["native", "wasm", "remote"]
    assert [b.name for b in registry.local_backends()] == ["native", "wasm"]
    assert [a.name for a in registry.probe_all() if a.ok] == USABLE


def test_rank_decides_then_environment_then_name_then_object(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert [b.name for b in registry.candidates()] == USABLE
    monkeypatch.setenv(registry.ENVIRONMENT, "wasm")
    assert [b.name for b in registry.candidates()] == ["wasm"]
    for name in USABLE:
        assert [b.name for b in registry.candidates(name)] == [name]
    mine = FakeBackend()
    assert registry.candidates(mine) == [mine]
    with LlamaBridge("demo") as llama:
        assert llama.backend == "wasm"


def test_an_unknown_name_lists_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        BackendUnavailable, match=rf"no backend of that name.*\n.*{', '.join(USABLE)}"
    ):
        LlamaBridge("demo", backend="cuda")
    monkeypatch.setenv(registry.ENVIRONMENT, "nonsense")
    with pytest.raises(BackendUnavailable, match="nonsense"):
        LlamaBridge("demo")
    with pytest.raises(InvalidInput, match="backend=3"):
        LlamaBridge("demo", backend=3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "broken",
    [ImportError("no module named torch"), SyntaxError("bad"), object(), int],
    ids=["import error", "syntax error", "no backend", "wrong class"],
)
def test_a_broken_third_party_backend_is_told_and_never_fatal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: object
) -> None:
    install(monkeypatch, Entry("broken", broken))
    with caplog.at_level(logging.WARNING, "llama_bridge.registry"):
        found = {a.name: a for a in registry.probe_all()}
    assert not found["broken"].ok
    assert found["broken"].reason
    assert "broken" in caplog.text
    assert found["wasm"].ok
    assert registry.candidates()[0].name == USABLE[0]
    with pytest.raises(BackendUnavailable, match="broken"):
        registry.candidates("broken")


def test_a_third_party_backend_of_higher_rank_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    class Better(FakeBackend):
        rank = 1000

    install(monkeypatch, Entry("better", Better), Entry("native", Better))
    assert registry.candidates()[0].name == "better"
    assert "wasm" in registry.available_in(Capability.SANDBOX)


def test_only_backends_that_can_be_used_here_are_named_as_a_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Missing(FakeBackend):
        capabilities = Capability.GPU_OFFLOAD | Capability.KV_CONTINUATION

        def probe(self) -> Availability:
            return Availability(self.name, False, "its library is not installed")

    missing = Entry("missing", Missing)
    monkeypatch.setattr(metadata, "entry_points", lambda *, group: [missing])
    assert registry.available_in(Capability.KV_CONTINUATION) == []
    llama = FakeLlama(lacks=["session_tools", "kv_continuation"])
    with pytest.raises(UnsupportedCapability) as caught:
        llama.requires(Capability.KV_CONTINUATION)
    assert caught.value.available_in == ()
    assert "missing has it, but its library is not installed" in str(caught.value)
    with pytest.raises(UnsupportedCapability) as caught:
        llama.requires(Capability.SANDBOX)
    assert str(caught.value) == "sandbox is not supported by the fake backend"
    llama.close()


def test_a_failing_probe_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(FakeBackend):
        rank = 5000

        def probe(self) -> object:  # type: ignore[override]
            raise RuntimeError("boom")

    install(monkeypatch, Entry("failing", Failing))
    found = registry.probe_all()[0]
    assert (found.name, found.ok) == ("failing", False)
    assert "boom" in found.reason
    assert registry.candidates()[0].name == USABLE[0]


def test_a_backend_that_fails_to_load_gives_way_to_the_next(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Hollow(FakeBackend):
        rank = 5000

        def load(self, *_: object) -> FakeEngine:
            raise BackendUnavailable(self.name, "its shared library is missing")

    install(monkeypatch, Entry("hollow", Hollow))
    with caplog.at_level(logging.WARNING), LlamaBridge("demo") as llama:
        assert llama.backend == USABLE[0]
    assert "shared library is missing" in caplog.text


def test_with_no_backend_at_all_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "entry_points", lambda *, group: [])
    with pytest.raises(BackendUnavailable, match="none is installed"):
        LlamaBridge("demo")


# models that nobody vouches for


def test_an_untrusted_model_runs_in_a_sandbox_whatever_is_installed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(registry.ENVIRONMENT, USABLE[0])
    with (
        caplog.at_level(logging.INFO, "llama_bridge.registry"),
        LlamaBridge("demo", untrusted=True) as llama,
    ):
        assert Capability.SANDBOX in llama.capabilities
        assert "untrusted" in repr(llama)
        assert f"sandbox of {llama.backend}" in caplog.text
        llama.load_model("demo")
        assert llama.backend == "wasm"
    with LlamaBridge("demo", untrusted=True, backend="wasm") as llama:
        assert llama.backend == "wasm"


def test_the_environment_picks_one_of_several_sandboxes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(FakeBackend):
        rank = 1000
        capabilities = FakeBackend.capabilities | Capability.SANDBOX

    install(monkeypatch, Entry("other", Other))
    assert [b.name for b in registry.sandboxes()] == ["other", "wasm"]
    monkeypatch.setenv(registry.ENVIRONMENT, "wasm")
    assert [b.name for b in registry.sandboxes()] == ["wasm", "other"]
    monkeypatch.setenv(registry.ENVIRONMENT, "nonsense")
    assert [b.name for b in registry.sandboxes()] == ["other", "wasm"]


def test_a_backend_without_a_sandbox_is_refused_before_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InvalidInput, match=r"needs a sandbox, and backend='fake' has none.*wasm"):
        LlamaBridge("nowhere.gguf", untrusted=True, backend=FakeBackend())
    with pytest.raises(InvalidInput, match="untrusted='yes'"):
        LlamaBridge("demo", untrusted="yes")  # type: ignore[arg-type]
    monkeypatch.setattr(registry, "backends", lambda: (FakeBackend(),))
    with pytest.raises(BackendUnavailable, match="an untrusted model needs a sandbox"):
        LlamaBridge("demo", untrusted=True)


def test_what_the_sandbox_lacks_is_not_sent_elsewhere() -> None:
    with LlamaBridge("demo", untrusted=True) as llama:
        assert Capability.SESSION_PERSISTENCE not in llama.capabilities
        with pytest.raises(UnsupportedCapability) as caught:
            llama.requires(Capability.SESSION_PERSISTENCE)
    assert caught.value.available_in == ()
    if "native" in USABLE:
        assert "the model is untrusted, and native would run it without" in str(caught.value)
