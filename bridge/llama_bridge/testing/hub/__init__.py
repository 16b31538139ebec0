"""A hub on this machine, for tests of what downloads models: real files, real requests, faults on demand.

.. code-block:: python

    with HubServer() as hub:
        hub.add("org/repo", {"model-Q4_K_M.gguf": path})
        for name, value in hub.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        LlamaBridge("hf:org/repo")

.. code-block:: text

    server.py       HubServer: what it has, what it was asked, when it fails
    routes.py       the hub's routes
    faults.py       what can go wrong

It listens on 127.0.0.1 only and ends with its block. It needs no package; huggingface_hub is for whoever asks it.
"""

from .faults import Fault, FaultKind
from .server import Asked, HubServer

__all__ = ["Asked", "Fault", "FaultKind", "HubServer"]
