"""llama.wasm on ARM64, by emulation: does the same module give the same bits there?

.. code-block:: text

    debian.py     an ARM64 Python, unpacked from Debian's packages into the per-user cache
    packages.py   the wheels that the project needs, for ARM64
    machine.py    runs Python in the emulator
    models.py     small random models, one for each format of weights
    probe.py      what is computed on both machines, written to a folder
    compare.py    two such folders, bit by bit

    python -m tools.arm64    does it all: ``make arm64``; ``--short`` is what CI does

It needs Debian's apt and its package ``qemu-user-static``. The machine's own apt is read for where its packages
come from, and nothing of it is changed. Emulation shows what is computed, not how fast; and not what ARM's weaker
memory order or larger pages would do.
"""
