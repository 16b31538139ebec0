"""A typical session: fresh, continue, continue, save, reset, load, continue.

python examples/kv_sessions.py [MODEL] [--backend native|wasm]
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path

from llama_bridge import BridgeError, Capability, Generation, LlamaBridge, SamplingParams


def show(step: str, answer: Generation) -> None:
    usage = answer.usage
    print(f"{step:<13} {answer.mode.value:<9} {usage.cached_tokens:>4} cached", end="")
    print(f" + {usage.evaluated_tokens:>3} evaluated   {answer.text!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="demo", help="path of a GGUF, or demo")
    parser.add_argument("--backend", default="auto", help="auto, native or wasm")
    args = parser.parse_args()
    greedy = SamplingParams(temperature=0, max_tokens=64)
    try:
        with LlamaBridge(args.model, backend=args.backend, sampling=greedy) as llama:
            print(f"{llama.model_name} on the {llama.backend} backend")
            converse(llama)
    except BridgeError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None


def converse(llama: LlamaBridge) -> None:
    if Capability.KV_CONTINUATION not in llama.capabilities:
        print("it lacks kv_continuation: every turn is fresh, without the earlier ones")
        warnings.simplefilter("ignore", UserWarning)  # FallbackWarning: that was just said
    show("fresh", llama.generate("Hello! My name is Zanora."))
    show("continue", llama.generate_continue("What is a KV cache?"))
    show("continue", llama.generate_continue("What is my name?"))

    if Capability.SESSION_PERSISTENCE not in llama.capabilities:
        print("it lacks session_persistence: nothing to save or load")
        return
    with tempfile.TemporaryDirectory() as folder:
        saved = llama.session_save(Path(folder, "chat.session"))
        print(f"{'save':<13} {saved.n_tokens} tokens, {saved.n_bytes:,} bytes")
        llama.session_reset()
        show("after reset", llama.generate_continue("What is my name?"))
        llama.session_load(saved.path)
        show("after load", llama.generate_continue("What is my name?"))


if __name__ == "__main__":
    main()
