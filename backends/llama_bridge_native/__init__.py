"""The native backend: llama.cpp through llama-cpp-python's ctypes layer.

.. code-block:: text

    backend.py          probe and load; finds llama-cpp-python without importing it. Start here
    engine.py           the engine contract over llama.cpp's C interface
    loading.py          weights and context, or why not
    sampler.py          sampler chains
    state_layout.py     whether a copy of a KV cache is what llama.cpp would have made
    load_progress.py    how far a load is
    deep_stack.py       room for pre-tokenizers that recurse once for each character
    library.py          the only module that imports llama_cpp; its log, its errors

May import ``llama_bridge``.
"""

from .backend import BACKEND

__all__ = ["BACKEND"]
