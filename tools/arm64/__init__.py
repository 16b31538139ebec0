"""llama.wasm on emulated ARM64: checks that the same module gives the same bits there.

.. code-block:: text

    debian.py     an ARM64 Python, unpacked from Debian's packages into the per-user cache
    packages.py   wheels for ARM64 of what the project needs
    machine.py    runs Python in the emulator
    models.py     small random models, one for each format of weights
    probe.py      computes results on either machine and writes them to a folder
    compare.py    compares two such folders, bit by bit

    python -m tools.arm64    does it all: ``make arm64``; CI uses ``--short``

It needs Debian's apt and its package ``qemu-user-static``. It reads package sources from the machine's
own apt settings, and changes nothing there. Emulation shows results, not speed, and not the effects of ARM's weaker
memory order or larger pages.
"""
