"""Random GGUF models with real vocabularies, of any shape, written in a moment. Only llama.cpp's source is downloaded.

Neither speed nor memory depends on the values of the weights, and sessions do not either. So benchmarks and tests need
no trained model. What a random model says is noise.
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
