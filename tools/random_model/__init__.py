"""Random GGUF models around real vocabularies: any shape, in a moment, with nothing downloaded but source.

Speed and memory do not depend on what the weights are, and a session's bookkeeping does not either, so
benchmarks and tests need no trained model. What a random model says is noise.
"""

from .vocabularies import Vocabulary, vocabulary
from .writer import CHATML, QWEN2_HALF_BILLION, TINY, Quantization, cached_model, write_model

__all__ = [
    "CHATML",
    "QWEN2_HALF_BILLION",
    "TINY",
    "Quantization",
    "Vocabulary",
    "cached_model",
    "vocabulary",
    "write_model",
]
