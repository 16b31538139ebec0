"""A model file: where it comes from, what it contains, and whether it is safe for an engine.

Read in this order:

.. code-block:: text

    name.py           reads a model's name: a path, an address, a repository on the hub
    source.py         checks and opens a model file
    part_name.py      the names of a split model's files
    split.py          finds them, and checks that they belong together
    parts_source.py   the parts of one that is not on the disk
    gguf.py           reads and checks the header of a GGUF file
    ggml_types.py     the types of tensors and KV caches
    fingerprint.py    identifies a model by its content
    arrays.py         reads the header's long arrays, such as the vocabulary
    preflight.py      checks what llama.cpp takes for granted, before it ends the process
    hyperparameters.py      of these, the numbers: layers, heads, experts, positions
    architecture_rules.py   what only some architectures ask of them
    tensor_preflight.py     the tensor table
    tokenizer_preflight.py  the vocabulary
    charsmap.py             the normaliser of T5's
    adapter.py        LoRA adapters: read, described, identified by content
    adapter_preflight.py  the same checks for them, against their model
    finite.py         finds NaN and infinity among weights
    pooling.py        how a model makes one vector of a text, and whether it can
    memory.py         how much memory a KV cache takes, from the header
    memory_need.py    how much a loaded model takes: weights, cache, work space
    fitting.py        what fits: the longest context, the most layers on a GPU
    what_fits.py      the same, as facts for people about this machine
    control_tokens.py what only a chat template may spell
    least_tokens.py   how many tokens a text has at least, without a tokenizer
    long_runs.py      texts that would crash a tokenizer
    file_kinds.py     what a file is that is not a model or a session

May import the ground floor only: params, checks, errors, system_memory.
"""
