"""Checks of an engine's arguments, for those who write an engine.

An engine trusts no caller: an id outside the vocabulary or one token too many would make llama.cpp read foreign memory
or end the process. A bad argument raises an InvalidInput that names it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

from .checks import check_count, check_text, shown
from .errors import ContextOverflow, InvalidInput
from .grammar import Grammar
from .params import SamplingParams

__all__ = [
    "check_ahead",
    "check_grammar_argument",
    "check_length",
    "check_pieces",
    "check_room",
    "check_sampler",
    "check_sequence",
    "check_sequences",
    "check_state",
    "check_text",
    "check_token",
    "check_tokens",
]

_UINT32 = 2**32


def check_token(token: int, n_vocab: int) -> int:
    """Return the id of a token, or raise InvalidInput."""
    if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < n_vocab:
        raise InvalidInput(
            f"token={shown(token)}: no such token; ids are whole numbers from 0 to {n_vocab - 1}"
        )
    return token


def check_tokens(name: str, tokens: Sequence[int], n_vocab: int) -> array[int]:
    """Return token ids packed as int32, or raise InvalidInput. Takes about 20 ns per token."""
    try:
        if isinstance(tokens, str | bytes | bytearray):  # an array would read bytes as numbers
            raise TypeError(f"a {type(tokens).__name__}")
        packed = array("i", tokens)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(
            f"{name}={shown(tokens)}: give a list of token ids, whole numbers from 0 to {n_vocab - 1} ({error})"
        ) from error
    if packed and not 0 <= min(packed) <= max(packed) < n_vocab:
        wrong = next(token for token in packed if not 0 <= token < n_vocab)
        raise InvalidInput(f"{name} has {wrong}: no such token; ids go from 0 to {n_vocab - 1}")
    return packed


def check_ahead(
    tokens: Sequence[int], guesses: Sequence[int], max_guesses: int, n_vocab: int, n_batch: int
) -> tuple[array[int], array[int]]:
    """Return the arguments of :meth:`~llama_bridge.kv_sequence.KvSequence.decode_ahead` packed, or raise InvalidInput."""
    packed = check_tokens("tokens", tokens, n_vocab)
    more = check_tokens("guesses", guesses, n_vocab)
    if not packed:
        raise InvalidInput("tokens is empty: give the tokens that the guesses follow")
    if len(more) > max_guesses:
        raise InvalidInput(f"{len(more)} guesses: this engine checks at most {max_guesses} at once")
    if (n := len(packed) + len(more)) > n_batch:
        raise InvalidInput(f"{n} tokens and guesses: at most {n_batch} can be computed at once")
    return packed, more


def check_sequences(
    sequences: Sequence[Sequence[int]], n_vocab: int, n_ctx: int
) -> list[array[int]]:
    """Return the token ids of sequences to embed, each packed as int32, or raise InvalidInput or ContextOverflow."""
    given: object = sequences
    if isinstance(given, str | bytes | bytearray) or not isinstance(given, Sequence) or not given:
        raise InvalidInput(
            f"sequences={shown(given)}: give a list of at least one list of token ids"
        )
    checked: list[array[int]] = []
    for i, tokens in enumerate(sequences):
        name = f"sequences[{i}]"
        packed = check_tokens(name, tokens, n_vocab)
        if not packed:
            raise InvalidInput(f"{name} has no tokens")
        if len(packed) > n_ctx:
            raise ContextOverflow(len(packed), n_ctx, text=name)
        checked.append(packed)
    return checked


def check_sequence(sequence: object, sequences: Sequence[object]) -> int:
    """Return which of an engine's sequences this is, or raise InvalidInput."""
    for number, own in enumerate(sequences):
        if own is sequence:
            return number
    raise InvalidInput(f"{shown(sequence)} is no sequence of this engine")


def check_pieces(
    pieces: Iterable[tuple[object, Sequence[int]]],
    sequences: Sequence[object],
    n_vocab: int,
    n_batch: int,
) -> list[tuple[int, array[int]]]:
    """Return what is to be decoded together: which sequence it is, and its tokens, packed. Those that get none are left out.

    Raises:
        InvalidInput: no list of pairs, a sequence of another engine or one given twice, no tokens, or more than ``n_batch``.
    """
    checked: list[tuple[int, array[int]]] = []
    seen: set[int] = set()
    total = 0
    for sequence, tokens in _pairs(pieces):
        number = check_sequence(sequence, sequences)
        packed = check_tokens("tokens", tokens, n_vocab)
        if number in seen:
            raise InvalidInput(f"sequence {number} is given twice")
        seen.add(number)
        total += len(packed)
        if packed:
            checked.append((number, packed))
    if total > n_batch:
        raise InvalidInput(f"{total} tokens at once: at most {n_batch} can be computed together")
    return checked


def _pairs(pieces: Iterable[tuple[object, Sequence[int]]]) -> list[tuple[object, Sequence[int]]]:
    try:
        return [(sequence, tokens) for sequence, tokens in pieces]
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"pieces={shown(pieces)}: give a list of pairs of a sequence and its tokens ({error})"
        ) from error


def check_room(length: int, more: int, n_ctx: int) -> None:
    """Refuse more tokens than fit after ``length`` others.

    Raises:
        ContextOverflow.
    """
    if length + more > n_ctx:
        raise ContextOverflow(length + more, n_ctx)


def check_length(length: int) -> int:
    """Return how many tokens to keep, or raise InvalidInput."""
    return check_count("length", length)


def check_sampler(
    params: SamplingParams,
    seed: int,
    recent: Sequence[int],
    n_vocab: int,
    grammar: Grammar | None = None,
) -> list[int]:
    """Return the recent tokens if all arguments are valid; otherwise raise InvalidInput."""
    if not isinstance(params, SamplingParams):
        raise InvalidInput(f"params={shown(params)}: give a SamplingParams")
    if check_count("seed", seed) >= _UINT32:
        raise InvalidInput(f"seed={shown(seed)}: give a whole number from 0 to {_UINT32 - 1}")
    for token in params.logit_bias:
        if isinstance(token, str):
            raise InvalidInput(f"logit_bias has {shown(token)}: give an engine token ids")
        if token >= n_vocab:
            raise InvalidInput(
                f"logit_bias has {shown(token)}: no such token; ids go from 0 to {n_vocab - 1}"
            )
    if grammar is not None:
        check_grammar_argument(grammar, n_vocab)
    return check_tokens("recent", recent, n_vocab).tolist()


def check_grammar_argument(grammar: Grammar, n_vocab: int) -> None:
    """Refuse what is no grammar, or one that is broken or too large for llama.cpp, which may end the process for it.

    Raises:
        InvalidInput.
    """
    if not isinstance(grammar, Grammar):
        raise InvalidInput(f"grammar={shown(grammar)}: give a Grammar")
    from .structured import check_grammar  # 60 ms, for those who give one

    check_grammar(grammar.text, grammar.root)
    for trigger in grammar.triggers:
        if trigger.token is not None and trigger.token >= n_vocab:
            raise InvalidInput(f"a trigger's token={shown(trigger.token)}: no such token")


def check_state(state: memoryview) -> memoryview:
    """Return a copy of a KV cache as writable bytes, or raise InvalidInput."""
    try:
        view = memoryview(state)
        view = view.cast("B") if view.nbytes else view  # an empty one cannot be cast
    except TypeError as error:
        raise InvalidInput(f"state={shown(state)}: give a memoryview of bytes ({error})") from error
    if view.readonly:
        raise InvalidInput("state is read-only: give a view of a bytearray")
    return view
