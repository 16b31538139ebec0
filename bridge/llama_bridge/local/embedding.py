"""Texts to tokens for an embedding, and in which batches they are computed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property

from ..engine import Engine
from ..errors import ContextOverflow, InvalidInput
from ..models.control_tokens import control_texts
from ..models.source import ModelFile

__all__ = ["TextReader", "in_batches"]

_MOST_SEQUENCES = 64
"""More at once is no faster, and each costs some memory."""
_PLACES = re.compile(r"(\{query\}|\{document\})")


def in_batches(lengths: Sequence[int], n_tokens: int) -> Iterator[list[int]]:
    """Indices of sequences to compute at once: up to so many tokens, or a longer one alone.

    The longest come first: what is left of a batch is then filled with shorter ones, and whether there is memory for the
    longest shows at once.
    """
    waiting = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    first, last = 0, len(waiting)
    while first < last:
        batch, room = [waiting[first]], n_tokens - lengths[waiting[first]]
        first += 1
        while first < last and len(batch) < _MOST_SEQUENCES:
            if lengths[waiting[first]] <= room:
                first += 1
                batch.append(waiting[first - 1])
            elif lengths[waiting[last - 1]] <= room:  # the shortest fills the gap
                last -= 1
                batch.append(waiting[last])
            else:
                break
            room -= lengths[batch[-1]]
        yield batch


class TextReader:
    """Turns texts into the tokens that a model embeds or ranks."""

    def __init__(self, engine: Engine, model: ModelFile) -> None:
        self._engine = engine
        self._model = model

    def read(self, texts: Sequence[str], *, truncate: bool) -> list[list[int]]:
        """The tokens of each text, with what the model wants around a whole text.

        Raises:
            ContextOverflow: a text is too long, and is not to be truncated.
            InvalidInput: a text has no tokens.
        """
        read: list[list[int]] = []
        for i, text in enumerate(texts):
            tokens = self._engine.tokenize(text, add_special=True, parse_special=False)
            name = f"text[{i}]" if len(texts) > 1 else "text"
            if not tokens:
                raise InvalidInput(f"{name} has no tokens, so there is nothing to embed")
            read.append(self._cut(tokens, name, truncate))
        return read

    def _cut(self, tokens: list[int], name: str, truncate: bool) -> list[int]:
        info = self._engine.info
        if len(tokens) <= info.n_ctx:
            return tokens
        if not truncate:
            raise ContextOverflow(len(tokens), info.n_ctx, text=name)
        ends = {info.eos} if info.add_eos else set[int | None]()
        if info.add_sep:
            ends.add(info.sep)
        end = tokens[-1:] if tokens[-1] in ends else []  # the model expects it there
        return tokens[: info.n_ctx - len(end)] + end

    def pair(self, query: str, documents: Sequence[str], *, truncate: bool) -> list[list[int]]:
        """The tokens of the query with each document, as a reranker expects them; as llama-server makes them.

        The model's template named ``rerank`` says how; without one it is BOS, query, EOS, SEP, document, EOS, as far as
        the model has them. Neither text becomes a control token, whatever it spells.

        Raises:
            ContextOverflow: a pair is too long, and the document is not to be truncated, or that does not help.
            InvalidInput: a pair has no tokens.
        """
        pairs: list[list[int]] = []
        for i, document in enumerate(documents):
            name = f"documents[{i}]"
            tokens = self._pair(query, document)
            if not tokens:
                raise InvalidInput(f"{name} and query have no tokens, so there is nothing to rank")
            if len(tokens) > self._engine.info.n_ctx:
                tokens = self._cut_pair(query, document, len(tokens), name, truncate)
            pairs.append(tokens)
        return pairs

    def _cut_pair(
        self, query: str, document: str, needed: int, name: str, truncate: bool
    ) -> list[int]:
        """A pair with as much of the document as fits."""
        most = self._engine.info.n_ctx
        if not truncate:
            raise ContextOverflow(needed, most, text=f"{name} with the query")
        if len(self._pair(query, "")) > most:
            raise ContextOverflow(len(self._pair(query, "")), most, text="query alone")
        fits, too_many = 0, len(document)
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            if len(self._pair(query, document[:middle])) <= most:
                fits = middle
            else:
                too_many = middle
        return self._pair(query, document[:fits])

    def _pair(self, query: str, document: str) -> list[int]:
        if self._template:
            return self._by_template(query, document)
        info = self._engine.info
        end = info.sep if info.eos is None else info.eos
        bos = [info.bos] if info.add_bos else []
        eos = [end] if info.add_eos else []
        sep = [info.sep] if info.add_sep else []
        parts = [*bos, *self._plain(query), *eos, *sep, *self._plain(document), *eos]
        return [token for token in parts if token is not None]

    def _by_template(self, query: str, document: str) -> list[int]:
        given = {"{query}": query, "{document}": document}
        tokens: list[int] = []
        for stretch, control in self._stretches:
            if control:
                tokens += self._engine.tokenize(stretch, add_special=False, parse_special=True)
            else:
                text = _PLACES.sub(lambda place: given[place[0]], stretch)
                tokens += self._plain(text)
        return tokens

    def _plain(self, text: str) -> list[int]:
        return self._engine.tokenize(text, add_special=False, parse_special=False) if text else []

    @cached_property
    def _template(self) -> str:
        return self._model.header.text("tokenizer.chat_template.rerank") or ""

    @cached_property
    def _stretches(self) -> list[tuple[str, bool]]:
        """The template as control tokens, each alone, and the text between them, places included."""
        controls = sorted(filter(None, self._controls), key=len, reverse=True)
        pattern = "|".join(map(re.escape, controls)) or "(?!)"
        parts = re.split(f"({pattern})", self._template)
        return [(part, i % 2 == 1) for i, part in enumerate(parts) if part]

    @cached_property
    def _controls(self) -> frozenset[str]:
        try:
            return control_texts(self._model)
        except (
            Exception
        ):  # a page opens a kept model only while it is loaded: ask the engine, which takes longer
            engine = self._engine
            silent = (t for t in range(engine.info.n_vocab) if not engine.token_bytes(t))
            spelled = (engine.token_bytes(t, special=True) for t in silent)
            return frozenset(text.decode("utf-8", "replace") for text in spelled)
