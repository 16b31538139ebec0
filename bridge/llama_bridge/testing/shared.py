"""One loaded model for many tests, each of which gets it as new."""

from __future__ import annotations

from ..bridge import LlamaBridge
from ..errors import BridgeError
from ..params import SamplingParams

__all__ = ["GREEDY", "SharedLlama", "SharedModel"]

GREEDY = SamplingParams(temperature=0, seed=0)
"""What the fixture ``llama`` samples with unless a test says otherwise."""


class SharedLlama(LlamaBridge):
    """A bridge that can be reset completely without loading its model again."""

    def __init__(self, model: str, backend: str) -> None:
        super().__init__(model, backend=backend, sampling=GREEDY)
        self._loaded = self._shared.runtime

    def renew(self) -> bool:
        """Cancel what is running and forget what a test said and set; False if that takes a new load."""
        shared = self._shared
        if shared.closed or shared.runtime is not self._loaded:
            return False
        self.cancel()
        try:
            for name in self.sessions():
                self.session(name).delete()
            self.session_reset()
            if self.adapters:
                self.set_adapters([])
        except BridgeError:  # an engine that is lost
            return False
        self.sampling, self.system = GREEDY, None
        shared.warned, shared.on_progress = False, None
        shared.said.clear()
        return True


class SharedModel:
    """Loads a model when a test first needs it, and again only if a test left it unusable."""

    def __init__(self, model: str, backend: str) -> None:
        self._model = model
        self._backend = backend
        self._llama: SharedLlama | None = None

    def take(self) -> SharedLlama:
        """The bridge, as new."""
        if self._llama is None:
            self._llama = SharedLlama(self._model, self._backend)
        return self._llama

    def put_back(self) -> None:
        """The test is over."""
        if self._llama is not None and not self._llama.renew():
            self.close()

    def close(self) -> None:
        """Free the model. Closing twice does nothing."""
        if self._llama is not None:
            self._llama.close()
            self._llama = None
