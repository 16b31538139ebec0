"""What is done with one hostile model: everything that people do with a right one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from llama_bridge import BridgeError, Capability, LlamaBridge, SamplingParams

__all__ = ["MEMORY_LIMIT", "try_model"]

MEMORY_LIMIT = 128 << 20
_GREEDY = SamplingParams(temperature=0, max_tokens=3)
_WARM = SamplingParams(temperature=0.9, seed=1, max_tokens=3, repeat_penalty=1.1)
_TEXTS = (
    "Hello, world! 123\n\n  \u4e16\u754c <s> It's 3.14\u00a0\u00e9",
    "\t\r\n \x00\x01 \U0001f600\u200b aaaaaaaaaaaaaaaa",
    "ACGT <dna>ACGTACGT</dna> <|im_start|>user",
    "",
)


def try_model(path: Path, backend: str) -> str:
    """Load it and use it; returns how far it came: the name of the first error, or ``"used"``."""
    trial = _Trial()
    try:
        llama = LlamaBridge(path, backend=backend, n_ctx=64, n_threads=1, memory_limit=MEMORY_LIMIT)
    except BridgeError as error:
        str(error)
        return type(error).__name__
    with llama:
        trial.use(llama, path)
    return trial.outcome


class _Trial:
    def __init__(self) -> None:
        self.outcome = "used"
        self.last = ""

    def step(self, work: Callable[[], object]) -> bool:
        """Whether it worked."""
        try:
            work()
        except BridgeError as error:
            self.last = str(error)
            if self.outcome == "used":
                self.outcome = f"loaded, {type(error).__name__}"
            return False
        return True

    def use(self, llama: LlamaBridge, path: Path) -> None:
        def tokens() -> None:
            for text in _TEXTS:
                llama.detokenize(llama.tokenize(text))
            n = llama.info.n_vocab
            llama.detokenize([*range(min(n, 40)), *range(max(0, n - 40), n)])

        self.step(tokens)
        if Capability.GENERATE in llama.capabilities:
            self.generate(llama, path)
        if Capability.EMBEDDINGS in llama.capabilities:
            self.step(lambda: llama.embed(["Hello there", "one two three four", ""]))
        if Capability.RERANK in llama.capabilities:
            self.step(lambda: llama.rerank("Hello", ["there", "one two three"]))

    def generate(self, llama: LlamaBridge, path: Path) -> None:
        session = path.with_suffix(".session")
        prompt = "Hello there, 12 apples"
        self.step(lambda: llama.generate(prompt, chat=False, sampling=_GREEDY))
        if Capability.SESSION_PERSISTENCE in llama.capabilities:
            saved = self.step(lambda: llama.session_save(session))
            self.step(lambda: llama.generate("Other", chat=False, sampling=_WARM))
            if not self.step(lambda: llama.session_load(session)) and saved:
                raise RuntimeError(f"a session was saved but not loaded: {self.last}")
        self.step(lambda: llama.generate_continue(" and so", chat=False, sampling=_WARM))
        self.step(
            lambda: llama.generate(
                prompt, chat=False, json_schema={"enum": ["yes", "no"]}, sampling=_GREEDY
            )
        )
