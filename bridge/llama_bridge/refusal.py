"""What a missing capability is told with: who else has it, or why this model cannot."""

from __future__ import annotations

from . import registry
from .capabilities import Capability
from .errors import UnsupportedCapability
from .runtime import Runtime

__all__ = ["refuse"]


def refuse(runtime: Runtime, capability: Capability) -> None:
    """Raise if a runtime lacks a capability, and name the backends that have it.

    Raises:
        UnsupportedCapability: names the first flag that is missing.
    """
    for flag in Capability:
        if flag in capability and flag not in runtime.capabilities:
            where = [name for name in registry.available_in(flag) if name != runtime.backend]
            why = "" if where else registry.unusable_in(flag)
            if of_model := _why_the_model_cannot(runtime, flag):
                where, why = [], of_model
            elif runtime.untrusted and where:
                safe = registry.available_in(Capability.SANDBOX)
                if not (safe_too := [name for name in where if name in safe]):
                    why = f"the model is untrusted, and {', '.join(where)} would run it without a sandbox"
                where = safe_too
            why = runtime.why_not(flag) or why
            raise UnsupportedCapability(flag, runtime.backend, where, why)


def _why_the_model_cannot(runtime: Runtime, flag: Capability) -> str:
    """Why a flag is missing, and what to do, if that is for the model and not the backend; otherwise empty."""
    if flag in Capability.CHAT_TEMPLATE | Capability.TOOLS:
        from .chat.module.host import missing  # 1 ms: only models without a template get here

        lacks = missing() or "the model has no chat template"
        return lacks + (
            ": pass chat=False for raw text" if flag is Capability.CHAT_TEMPLATE else ""
        )
    if Capability.TOKENS not in runtime.capabilities or not runtime.info.n_embd:
        return ""
    pooling = runtime.info.pooling
    if flag is Capability.GENERATE:
        instead = "rerank" if pooling == "rank" else "embed"
        return f"the model was not made to generate text: call {instead}(), or load another"
    if flag is Capability.EMBEDDINGS and pooling == "rank":
        return "the model is a reranker: call rerank(), or load an embedding model"
    if flag is Capability.EMBEDDINGS and pooling == "none":
        return (
            "the model's file names no pooling, because it was made to generate: load an embedding model, or this one "
            "with pooling='mean' or pooling='last'"
        )
    if flag is Capability.RERANK and pooling != "rank":
        return "the model is not a reranker: load one, such as a cross-encoder"
    return ""
