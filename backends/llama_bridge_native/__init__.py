"""The native backend: llama.cpp through llama-cpp-python's ctypes layer.

.. code-block:: text

    backend.py          probe and load; finds llama-cpp-python without importing it. Start here
    fit.py              refuses what cannot fit this machine, and finds what "auto" takes
    devices.py          GPUs and their free memory
    opening.py          loads a model and gives it to the engine that it needs
    engine.py           the engine contract on llama.cpp's C interface
    sequence.py         one sequence of the KV cache: tokens, sampler, copies of its state
    batch.py            tokens of some sequences, as llama.cpp takes them
    encoder_engine.py   the same for models that only embed
    adapters.py         LoRA adapters that llama.cpp holds
    embedder.py         embeddings, in a context of their own
    loading.py          loads weights and contexts, or says why not
    finite_weights.py   whether weights are checked for NaN, and which failed
    sampler.py          sampler chains
    constraint.py       draws only what fits a grammar
    token_tree.py       the vocabulary as a tree, for grammars that allow little
    logprobs.py         how probable tokens were
    candidates.py       candidate tokens as llama.cpp's samplers take them; a sampler in Python
    state_layout.py     checks that a copy of a KV cache is as llama.cpp would write it
    load_progress.py    progress of a load
    deep_stack.py       stack for pre-tokenizers that recurse once per character
    library.py          the only module that imports llama_cpp; its log, its errors

May import ``llama_bridge``.
"""

from .backend import BACKEND

__all__ = ["BACKEND"]
