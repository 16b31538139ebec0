"""What a llama-server and its model are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from llama_bridge.errors import EngineError

from ..client import Client, NotJson
from ..events import as_object

__all__ = ["Facts", "read_facts"]

_OF_MODEL = ("n_vocab", "n_ctx_train", "n_embd", "n_params", "size")


@dataclass(frozen=True, slots=True)
class Facts:
    """A server and its model, as far as it tells.

    Attributes:
        model_path: the model's file there.
        chat_template: in Jinja, or None.
        n_ctx: tokens that one slot holds.
        n_slots: how many slots there are.
        bos, eos: these tokens as text.
        build: version of llama.cpp.
        n_vocab, n_ctx_train, n_embd, n_params, size: of the model.
    """

    model_path: str
    chat_template: str | None
    n_ctx: int
    n_slots: int
    bos: str
    eos: str
    build: str
    n_vocab: int
    n_ctx_train: int
    n_embd: int
    n_params: int
    size: int

    @property
    def identity(self) -> dict[str, object]:
        """What must be the same for a KV cache to be of use."""
        template = hashlib.sha256((self.chat_template or "").encode()).hexdigest()[:16]
        return {
            "model_path": self.model_path,
            "n_vocab": self.n_vocab,
            "n_params": self.n_params,
            "model_size": self.size,
            "n_ctx": self.n_ctx,
            "chat_template": template,
        }


def read_facts(
    client: Client, record: Mapping[str, Any] | None = None, known: Facts | None = None
) -> Facts:
    """Ask the server.

    Args:
        client: asks.
        record: the model's record in the list of models; None asks for it.
        known: what was known. If the model is called as then, its record is not asked for again.

    Raises:
        EngineError, Refused.
    """
    props: Any = client.get("/props")
    same = known is not None and as_object(props).get("model_path") == known.model_path
    if record is None and known is not None and same:
        record = {"meta": {name: getattr(known, name) for name in _OF_MODEL}}
    if record is None:
        listed: Any = client.get("/v1/models")
        record = _first(listed)
    found = cast("Mapping[str, Any]", record.get("meta") or {})
    try:
        settings = props["default_generation_settings"]
        n_ctx = int(settings["n_ctx"])
        template = props.get("chat_template") or None
        if not isinstance(template, str | None):
            raise TypeError("chat_template is no text")
        return Facts(
            model_path=str(props.get("model_path") or ""),
            chat_template=template,
            n_ctx=n_ctx,
            n_slots=int(props.get("total_slots") or 1),
            bos=str(props.get("bos_token") or ""),
            eos=str(props.get("eos_token") or ""),
            build=str(props.get("build_info") or ""),
            n_vocab=int(found.get("n_vocab") or 0),
            n_ctx_train=int(found.get("n_ctx_train") or n_ctx),
            n_embd=int(found.get("n_embd") or 0),
            n_params=int(found.get("n_params") or 0),
            size=int(found.get("size") or 0),
        )
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise NotJson(f"{client.url}/props is not what llama-server tells: {error!r}") from error


def _first(listed: Any) -> Mapping[str, Any]:
    try:
        return cast("Mapping[str, Any]", listed["data"][0])
    except (TypeError, KeyError, IndexError) as error:
        raise EngineError("the server lists no model any more") from error
