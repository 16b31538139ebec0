"""Models in a page. Only for a page: importing this needs JavaScript.

.. code-block:: python

    from llama_bridge_wasm.store import BlobSource, ModelStore

    store = ModelStore()
    kept = await store.download("hf:org/repo")  # an address, or add(file, file.name)
    async with store.open(kept.sha256) as source:
        llama = LlamaBridge(source)

Read in this order:

.. code-block:: text

    arguments.py    what callers give
    sources.py      a Blob, a URL or an OPFS file, read straight into the guest
    model_store.py  models that the browser keeps
    arrivals.py     models that have not arrived whole
    hub.py          names of the hub
    incoming.py     a file on its way in
    patience.py     how long a server is waited for
    copying.py      tells other tabs that this one copies
    opfs.py         where models are stored
    errors.py       what can go wrong

May import ``llama_bridge`` and ``page.py``, but no host and no engine.
"""

from .errors import DownloadError, ModelBusy, StoreError, StoreFull, StoreUnavailable
from .incoming import StoreProgress
from .model_store import ModelStore
from .sources import BlobSource, HandleSource, UrlSource

__all__ = [
    "BlobSource",
    "DownloadError",
    "HandleSource",
    "ModelBusy",
    "ModelStore",
    "StoreError",
    "StoreFull",
    "StoreProgress",
    "StoreUnavailable",
    "UrlSource",
]
