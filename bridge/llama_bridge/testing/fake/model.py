"""The fake's model: a GGUF file with a chat template and control tokens but no weights."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...models.arrays import read_integers, read_strings
from ...models.source import ModelFile

__all__ = ["CHAT_TEMPLATE", "SpecialTokens", "read_special_tokens", "write_fake_model"]

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
_TOKENS = ("<s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
_U32, _I32, _BOOL, _STRING, _ARRAY = 4, 5, 7, 8, 9
_CONTROL = 3  # LLAMA_TOKEN_TYPE_CONTROL


def write_fake_model(
    path: Path,
    name: str = "fake",
    *,
    template: str | None = CHAT_TEMPLATE,
    controls: Sequence[str] = _TOKENS,
) -> Path:
    """Write a model of about 500 bytes for :class:`~llama_bridge.testing.FakeBackend`. No real engine loads it.

    Args:
        path: where.
        name: what it is called.
        template: its chat template, or None.
        controls: its control tokens: the one that begins a text, the one that ends an answer, and others.
    """
    pairs = [
        ("general.architecture", _text("fake")),
        ("general.name", _text(name)),
        ("fake.context_length", _number(_U32, 1 << 16)),
        ("tokenizer.ggml.tokens", _array(_STRING, [_string(token) for token in controls])),
        ("tokenizer.ggml.token_type", _array(_I32, [struct.pack("<i", _CONTROL)] * len(controls))),
        ("tokenizer.ggml.bos_token_id", _number(_U32, 0)),
        ("tokenizer.ggml.eos_token_id", _number(_U32, 1)),
        ("tokenizer.ggml.add_bos_token", struct.pack("<I?", _BOOL, True)),
    ]
    if template is not None:
        pairs.append(("tokenizer.chat_template", _text(template)))
    body = b"".join(_string(key) + value for key, value in pairs)
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + body
    path.write_bytes(head + bytes(-len(head) % 32))
    return path


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _text(text: str) -> bytes:
    return struct.pack("<I", _STRING) + _string(text)


def _number(kind: int, value: int) -> bytes:
    return struct.pack("<II", kind, value)


def _array(kind: int, items: Sequence[bytes]) -> bytes:
    return struct.pack("<IIQ", _ARRAY, kind, len(items)) + b"".join(items)


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """What a model's vocabulary says about its control tokens.

    Attributes:
        control: text of each control token.
        bos: the token that begins a whole text, or None.
        add_bos: whether tokenisation adds it.
        ends: tokens that end an answer, at least one.
    """

    control: tuple[str, ...]
    bos: str | None
    add_bos: bool
    ends: tuple[str, ...]


def read_special_tokens(model: ModelFile) -> SpecialTokens:
    """The control tokens of any GGUF file, so that the fake can use its chat template."""
    metadata = model.header.metadata
    tokens = [
        word.decode("utf-8", "replace") for word in read_strings(model, "tokenizer.ggml.tokens")
    ]
    kinds = read_integers(model, "tokenizer.ggml.token_type")
    control = [token for token, kind in zip(tokens, kinds, strict=False) if kind == _CONTROL]

    def named(key: str) -> str | None:
        index = metadata.get(f"tokenizer.ggml.{key}_token_id")
        return tokens[index] if isinstance(index, int) and index < len(tokens) else None

    bos = named("bos")
    ends = [token for token in (named("eos"), named("eot"), named("eom")) if token] or ["</s>"]
    control += [token for token in (bos, *ends) if token and token not in control]
    add_bos = metadata.get("tokenizer.ggml.add_bos_token") is True and bos is not None
    return SpecialTokens(tuple(control), bos, add_bos, tuple(dict.fromkeys(ends)))
