"""What the demo does on one backend, and what must then be true. Shows nothing; demo.py does.

What to expect depends on the capability flags, never on a backend's name.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..bridge import LlamaBridge
from ..capabilities import Capability
from ..errors import BridgeError, FallbackWarning, UnsupportedCapability
from ..generation import Fallback, Generation, Mode
from ..local.ledger import common_beginning
from ..params import ModelParams, SamplingParams
from ..progress import OnProgress
from ..runtime import Backend
from ..snapshot import SessionInfo
from .streaming import record
from .terminal import count, size

__all__ = ["ASK", "TELL", "Check", "Step", "says", "walk"]

TELL = "My name is {name}."
ASK = "What is my name?"

_GREEDY = SamplingParams(temperature=0.0, max_tokens=64)
_CONTINUATION = Capability.KV_CONTINUATION
_PREFIX_CACHE = Capability.PREFIX_CACHE
_PERSISTENCE = Capability.SESSION_PERSISTENCE


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must be true, and whether it was."""

    what: str
    ok: bool
    saw: str


@dataclass(frozen=True, slots=True)
class Step:
    """One call and what came of it.

    Attributes:
        call: name of the method.
        seconds: wall time.
        note: what it did, as text; for a refusal, the reason.
        prompt, generation: prompt and answer of a call that generates.
        refused: whether the call was refused because the backend lacks a capability.
        checks: what was checked.
    """

    call: str
    seconds: float
    note: str = ""
    prompt: str = ""
    generation: Generation | None = None
    refused: bool = False
    checks: tuple[Check, ...] = ()

    @property
    def failed(self) -> list[Check]:
        """The checks that were not met."""
        return [check for check in self.checks if not check.ok]

    def record(self) -> dict[str, Any]:
        """The step as JSON shows it."""
        made: dict[str, Any] = {"call": self.call, "seconds": self.seconds, "note": self.note}
        if self.generation is not None:
            made |= {"prompt": self.prompt, **record(self.generation)}
        return made | {"refused": self.refused, "checks": [asdict(check) for check in self.checks]}


def says(text: str, name: str) -> bool:
    """Whether a text contains the name as a separate word, in any case."""
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE) is not None


def walk(
    backend: Backend,
    model: str,
    params: ModelParams,
    name: str,
    folder: Path,
    on_progress: OnProgress | None = None,
) -> Iterator[Step]:
    """Tell a name, ask for it, save, ask in a new bridge, reset, and ask again, step by step.

    Raises:
        BridgeError: a call failed that should have worked.
    """
    path = folder / "demo.session"

    def load() -> LlamaBridge:
        return LlamaBridge(
            model, backend=backend, params=params, sampling=_GREEDY, on_progress=on_progress
        )

    clock = time.perf_counter()
    with load() as llama:
        yield _loaded(llama, time.perf_counter() - clock)
        told = TELL.format(name=name)
        clock = time.perf_counter()
        yield _fresh(llama, llama.generate(told), told, time.perf_counter() - clock)
        yield _ask(llama, name, continued=_CONTINUATION in llama.capabilities, first=True)
        yield _save(llama, path)

    clock = time.perf_counter()
    with load() as llama:
        yield Step(
            "LlamaBridge", time.perf_counter() - clock, "the first is closed, this is a new one"
        )
        restored = _PERSISTENCE in llama.capabilities
        yield _load(llama, path) if restored else _refused(llama, "session_load", path)
        can_continue = restored and _CONTINUATION in llama.capabilities
        yield _ask(llama, name, continued=can_continue, first=True)
        yield _reset(llama)
        yield _ask(llama, name, continued=False, first=False)


def _loaded(llama: LlamaBridge, seconds: float) -> Step:
    able = {
        flag: "yes" if flag in llama.capabilities else "no"
        for flag in (_CONTINUATION, _PERSISTENCE)
    }
    flags = ", ".join(f"{(flag.name or '').lower()} {word}" for flag, word in able.items())
    file = llama.where or f"{llama.model.name}, {size(llama.model.header.file_size)}"
    note = f"{file}, loaded ({flags})"
    return Step("LlamaBridge", seconds, note)


def _fresh(llama: LlamaBridge, generation: Generation, prompt: str, seconds: float) -> Step:
    checks = (
        *_mode_checks(llama, generation, False, ()),
        _is("no fallback", None, generation.fallback),
    )
    return Step("generate", seconds, "", prompt, generation, checks=checks)


def _ask(llama: LlamaBridge, name: str, *, continued: bool, first: bool) -> Step:
    """Ask with generate_continue; ``first`` on this bridge, because a FallbackWarning is issued once."""
    held, active = llama.session().tokens, llama.session().active
    expected = None if continued else Fallback.UNSUPPORTED if active else Fallback.NO_SESSION
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FallbackWarning)
        clock = time.perf_counter()
        generation = llama.generate_continue(ASK)
        seconds = time.perf_counter() - clock
    announced = [w for w in caught if issubclass(w.category, FallbackWarning)]
    checks = [
        *_mode_checks(llama, generation, continued, held),
        Check(f"fallback: {expected}", generation.fallback is expected, str(generation.fallback)),
        Check(
            f"the answer names {name}" if continued else f"the answer does not name {name}",
            says(generation.text, name) == continued,
            generation.text,
        ),
    ]
    warns = first and expected is Fallback.UNSUPPORTED
    checks.append(_is("FallbackWarnings", int(warns), len(announced)))
    return Step("generate_continue", seconds, "", ASK, generation, checks=tuple(checks))


def _mode_checks(
    llama: LlamaBridge, generation: Generation, continued: bool, held: tuple[int, ...]
) -> list[Check]:
    usage = generation.usage
    if llama.where:  # what a server has cached besides is its own affair
        reuse = "of what is continued, some came from the cache"
        right = usage.cached_tokens > 0 or not continued
    elif continued:
        reuse = "the whole conversation came from the cache"
        right = usage.cached_tokens == len(held) > 0
    elif held and _PREFIX_CACHE in llama.capabilities:
        reuse = (
            "of the conversation before, only what the prompt begins with too came from the cache"
        )
        prompt = llama.session().tokens[: usage.prompt_tokens]
        right = usage.cached_tokens <= common_beginning(held, prompt)
    else:
        reuse, right = "nothing was cached", usage.cached_tokens == 0
    seen = f"{usage.cached_tokens} cached, {usage.evaluated_tokens} evaluated"
    return [
        _is("mode", (Mode.CONTINUED if continued else Mode.FRESH).value, generation.mode.value),
        Check(reuse, right, seen),
        Check(
            "cached and evaluated tokens add up",
            usage.evaluated_tokens > 0
            and usage.cached_tokens + usage.evaluated_tokens == usage.prompt_tokens,
            f"{seen}, {usage.prompt_tokens} in all",
        ),
        Check("something was said", usage.completion_tokens > 0, generation.text),
    ]


def _save(llama: LlamaBridge, path: Path) -> Step:
    if _PERSISTENCE not in llama.capabilities:
        return _refused(llama, "session_save", path)
    clock = time.perf_counter()
    info = llama.session_save(path)
    seconds = time.perf_counter() - clock
    checks = (
        *_tokens_checks("tokens saved", llama, info),
        _is("bytes on the disk", info.n_bytes, path.stat().st_size),
    )
    note = f"{path.name}: {count(info.n_tokens, 'token')}, {size(info.n_bytes)}"
    return Step("session_save", seconds, note, checks=checks)


def _load(llama: LlamaBridge, path: Path) -> Step:
    clock = time.perf_counter()
    info = llama.session_load(path)
    seconds = time.perf_counter() - clock
    checks = (
        *_tokens_checks("tokens restored", llama, info),
        _is("tokens in the KV cache", info.n_tokens, info.cached_tokens),
    )
    note = f"{count(info.n_tokens, 'token')}, {count(len(info.messages), 'message')}"
    return Step("session_load", seconds, note, checks=checks)


def _tokens_checks(what: str, llama: LlamaBridge, info: SessionInfo) -> list[Check]:
    if Capability.TOKENS not in llama.capabilities:
        return [Check(f"{what}: some", info.n_tokens > 0, str(info.n_tokens))]
    return [_is(what, len(llama.session().tokens), info.n_tokens)]


def _reset(llama: LlamaBridge) -> Step:
    clock = time.perf_counter()
    llama.session_reset()
    seconds = time.perf_counter() - clock
    checks = (_is("tokens left in the session", 0, len(llama.session().tokens)),)
    return Step("session_reset", seconds, "the conversation is forgotten", checks=checks)


def _refused(llama: LlamaBridge, call: str, path: Path) -> Step:
    """Make a call that must be refused, because the backend lacks the flag."""
    method: Callable[[Path], object] = getattr(llama, call)
    held = llama.session().tokens
    error: BridgeError | None = None
    clock = time.perf_counter()
    try:
        method(path)
    except BridgeError as raised:
        error = raised
    seconds = time.perf_counter() - clock
    expected = isinstance(error, UnsupportedCapability) and error.capability is _PERSISTENCE
    checks = (
        Check("refused with UnsupportedCapability", expected, repr(error)),
        Check("no file was written", not path.exists(), path.name),
        _is("tokens kept in the session", len(held), len(llama.session().tokens)),
    )
    return Step(call, seconds, f"refused: {error}", refused=error is not None, checks=checks)


def _is(what: str, expected: object, seen: object) -> Check:
    return Check(f"{what}: {expected}", expected == seen, str(seen))
