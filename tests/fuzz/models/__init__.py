"""Hostile model files: ``python -m tests.fuzz --models`` (or ``make fuzz-models``).

Small models of many architectures and vocabularies are mutated and used in a child process, one after another: checked,
loaded, asked, saved. None may end the process, hang it, make it grow, or raise what is no
:class:`~llama_bridge.BridgeError`.

    seeds.py                 the models that nothing is wrong with
    document.py              a model file as lists that can hold anything, even lies
    mutations.py             what is done to them; a number always gives the same file
    vocabulary_mutations.py  what is done to their tokenizers
    keys.py                  the names that llama.cpp reads
    trial.py                 what is done with one file
    worker.py                forks children that try one file after another, and sees them die
    runner.py                starts the workers, counts, keeps what was found
"""
