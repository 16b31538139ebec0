"""The vocabulary of the server's model: texts to tokens and back, by asking the server. Answers are kept."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from llama_bridge.engine import EngineInfo, MemoryKind
from llama_bridge.errors import EngineError
from llama_bridge.models.control_tokens import looks_like_control

from ..client import Client, NotJson, Refused
from .facts import Facts

__all__ = ["Vocabulary"]

_REPLACED = "\ufffd"
_KEPT = 1 << 20
"""Characters of the texts whose tokens are kept. What templates spell and what was said before is asked for once."""


class Vocabulary:
    """What :class:`~llama_bridge.local.spelling.Spelling` needs of an engine.

    Args:
        client: asks the server.
        facts: what it is.

    Attributes:
        info: facts about model and context. The tokens that end an answer are learned from answers.
    """

    def __init__(self, client: Client, facts: Facts) -> None:
        self._client = client
        self._facts = facts
        self._bytes: dict[int, bytes] = {}
        self._controls: dict[int, bool] = {}
        self._plain: frozenset[int] = frozenset()  # tokens that text without control tokens has
        self._found: OrderedDict[tuple[str, bool, bool], list[tuple[int, bytes]]] = OrderedDict()
        self._room = _KEPT
        self._lock = threading.Lock()
        whole = self.tokenize("", add_special=True, parse_special=False)
        bos, eos = self._control(facts.bos), self._control(facts.eos)
        self.info = EngineInfo(
            n_ctx=facts.n_ctx,
            n_ctx_train=facts.n_ctx_train,
            n_vocab=facts.n_vocab,
            bos=bos,
            eos=eos,
            add_bos=bos is not None and whole[:1] == [bos],
            end_of_generation=frozenset(() if eos is None else (eos,)),
            memory=MemoryKind.DENSE,
            n_threads=0,
            flash_attn=False,
            type_k="",
            type_v="",
            version=f"llama-server {facts.build}".strip(),
            n_embd=facts.n_embd,
            n_parallel=facts.n_slots,
            add_eos=eos is not None and whole[1:] == [eos],
        )

    def ends_with(self, token: int) -> None:
        """A token has ended an answer."""
        if token not in self.info.end_of_generation:
            ends = self.info.end_of_generation | {token}
            self.info = replace(self.info, end_of_generation=ends)

    def least_tokens(self, text: str) -> int:
        """See :class:`llama_bridge.Engine`. Nothing is known without tokenising."""
        return 0

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """See :class:`llama_bridge.Engine`."""
        return [token for token, _ in self._asked(text, add_special, parse_special)]

    def tokens_now(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """The same as the server says it now. It may have another model, and nobody asks whether it has."""
        return [token for token, _ in self._ask(text, add_special, parse_special)]

    def _asked(self, text: str, add_special: bool, parse_special: bool) -> list[tuple[int, bytes]]:
        key = (text, add_special, parse_special)
        with self._lock:
            if (known := self._found.get(key)) is not None:
                self._found.move_to_end(key)
                return known
        found = self._ask(text, add_special, parse_special)
        self._keep(key, found)
        return found

    def _ask(
        self, text: str | list[str], add_special: bool, parse_special: bool
    ) -> list[tuple[int, bytes]]:
        body = {
            "content": text,
            "add_special": add_special,
            "parse_special": parse_special,
            "with_pieces": True,
        }
        answer = self._post("/tokenize", body)
        try:
            found = [(int(one["id"]), _piece(one["piece"])) for one in answer["tokens"]]
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise NotJson(f"the server's answer to /tokenize has no tokens: {error!r}") from error
        with self._lock:
            self._bytes.update(found)
        return found

    def _keep(self, key: tuple[str, bool, bool], found: list[tuple[int, bytes]]) -> None:
        with self._lock:
            if key in self._found:
                return
            self._found[key] = found
            self._room -= len(key[0]) + 1
            while self._room < 0:
                old, _ = self._found.popitem(last=False)
                self._room += len(old[0]) + 1

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        try:
            return self._client.post(path, body)
        except Refused as refused:
            raise self._client.error_of(refused.refusal) from refused

    def token_bytes(self, token: int, *, special: bool = False) -> bytes:
        """See :class:`llama_bridge.Engine`.

        Raises:
            EngineError: the server does not tell the bytes of a token that is only a part of a character.
        """
        spelled = self._spelled(token)
        return b"" if not special and self.is_control(token) else spelled

    def _spelled(self, token: int) -> bytes:
        known = self._bytes.get(token)
        if known is not None:
            return known
        text = self.text([token])
        if _REPLACED in text:
            raise EngineError(
                f"token {token} is a part of a character, whose bytes this server does not tell"
            )
        found = text.encode()
        with self._lock:
            return self._bytes.setdefault(token, found)

    def text(self, tokens: Sequence[int]) -> str:
        """Tokens as text, control tokens too."""
        answer = self._post("/detokenize", {"tokens": list(tokens)})
        try:
            return str(answer["content"])
        except (TypeError, KeyError) as error:
            raise NotJson("the server's answer to /detokenize has no text") from error

    def is_control(self, token: int) -> bool:
        """Whether a token is one that only templates may spell."""
        known = self._controls.get(token)
        if known is None:
            spelled = self._spelled(token).decode("utf-8", "replace")
            as_text = self._asked(spelled, False, False)
            as_control = self._asked(spelled, False, True)
            known = [t for t, _ in as_control] == [token] and [t for t, _ in as_text] != [token]
            known = known or not spelled
            with self._lock:
                self._controls[token] = known
        return known

    def _control(self, text: str) -> int | None:
        found = self.tokenize(text, add_special=False, parse_special=True) if text else []
        return found[0] if len(found) == 1 else None

    def controls_in(self, text: str, known: Collection[str] = ()) -> frozenset[str]:
        """The control tokens that a text spells, besides those that are known; words that are written like one count, too.

        Text whose tokens were all seen in text before is asked for once, as it is tokenised.
        """
        found = self._asked(text, False, True) if text else []
        new = self._new(found, known)
        if new:  # between control tokens each part is tokenised by itself
            controls = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
            parts = re.split(controls, text) if controls else [text]
            self._are_plain(self._ask(parts, False, False))
            new = self._new(new, known)
        spelled = {
            (token, piece)
            for token, piece in new
            if piece and (looks_like_control(piece) or self.is_control(token))
        }
        self._are_plain(new - spelled)
        return frozenset(_text(piece) for _, piece in spelled)

    def _new(
        self, found: Iterable[tuple[int, bytes]], known: Collection[str]
    ) -> set[tuple[int, bytes]]:
        plain = self._plain
        return {one for one in found if one[0] not in plain and _text(one[1]) not in known}

    def _are_plain(self, found: Iterable[tuple[int, bytes]]) -> None:
        plain = {token for token, piece in found if not looks_like_control(piece)}
        with self._lock:
            self._plain |= plain


def _text(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")


def _piece(piece: Any) -> bytes:
    # Of a number bytes() makes as many zeros.
    return piece.encode() if isinstance(piece, str) else bytes([*piece])
