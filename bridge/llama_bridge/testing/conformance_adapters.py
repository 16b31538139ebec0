"""The part of the conformance tests that puts LoRA adapters in force."""

# ruff: noqa: D102 -- a test's name is its sentence

from __future__ import annotations

from pathlib import Path

import pytest

from ..capabilities import Capability
from ..engine import Engine
from ..errors import ClosedError, InvalidModel, ModelError, UnsupportedCapability
from ..local.engine_backend import EngineBackend
from ..models.adapter import Adapter, read_adapters
from ..models.source import open_model
from .adapters import write_adapter
from .conformance_base import EngineTests

__all__ = ["AdapterTests"]


class AdapterTests(EngineTests):
    """Tests of ``set_adapters``, for engines with ``ADAPTERS``."""

    def test_an_adapter_changes_what_is_computed(self, engine: Engine, tmp_path: Path) -> None:
        self.needs(engine, Capability.ADAPTERS)
        plain = self._logits(engine)
        adapters = self._adapters(tmp_path, (1, 1.0))
        engine.set_adapters(adapters)
        assert engine.info.adapters == adapters
        assert self._logits(engine) != plain

    def test_without_its_adapters_a_model_is_as_before(
        self, engine: Engine, tmp_path: Path
    ) -> None:
        self.needs(engine, Capability.ADAPTERS)
        plain = self._logits(engine)
        engine.set_adapters(self._adapters(tmp_path, (1, 1.0), (2, 0.5)))
        self._logits(engine)
        engine.set_adapters(())
        assert engine.info.adapters == ()
        assert self._logits(engine) == plain

    def test_scale_and_content_of_an_adapter_count(self, engine: Engine, tmp_path: Path) -> None:
        self.needs(engine, Capability.ADAPTERS)
        seen: list[list[float]] = []
        for adapters in (((1, 1.0),), ((1, 0.5),), ((2, 1.0),), ((1, 1.0), (2, 1.0))):
            engine.set_adapters(self._adapters(tmp_path, *adapters))
            now = self._logits(engine)
            assert now not in seen
            seen.append(now)

    def test_adapters_may_come_and_go_in_any_order(self, engine: Engine, tmp_path: Path) -> None:
        self.needs(engine, Capability.ADAPTERS)
        one, two = (self._adapters(tmp_path, pair) for pair in ((1, 1.0), (2, 1.0)))
        engine.set_adapters(one)
        expected = self._logits(engine)
        for adapters in (two, (), two, self._adapters(tmp_path, (1, 1.0), (2, 1.0))):
            engine.set_adapters(adapters)
        engine.set_adapters(one)
        assert self._logits(engine) == expected

    def test_other_adapters_empty_the_cache_and_the_same_leave_it(
        self, engine: Engine, tmp_path: Path
    ) -> None:
        self.needs(engine, Capability.ADAPTERS)
        engine.decode(self.prompt(engine))
        engine.set_adapters(())
        assert engine.length == len(self.prompt(engine))
        for adapters in (self._adapters(tmp_path, (1, 1.0)), ()):
            engine.set_adapters(adapters)
            assert engine.length == 0, "what other adapters computed must not stay"
            engine.decode(self.prompt(engine))
            engine.set_adapters(tuple(adapters))
            assert engine.length == len(self.prompt(engine))

    def test_a_refused_adapter_changes_nothing(self, engine: Engine, tmp_path: Path) -> None:
        self.needs(engine, Capability.ADAPTERS)
        kept = self._adapters(tmp_path, (1, 1.0))
        engine.set_adapters(kept)
        expected = self._logits(engine)
        model = open_model(self.model)
        write_adapter(tmp_path / "foreign.gguf", model, architecture="another")
        foreign = read_adapters([(tmp_path / "foreign.gguf", 1.0)])
        gone = self._adapters(tmp_path, (3, 1.0))
        (tmp_path / "3.gguf").unlink()
        for wrong, error in ((foreign, InvalidModel), (gone, ModelError)):
            for several in (wrong, (*self._adapters(tmp_path, (2, 1.0)), *wrong)):
                with pytest.raises(error):
                    engine.set_adapters(several)
                assert engine.info.adapters == kept
                assert engine.length == len(self.prompt(engine))
        assert self._logits(engine) == expected

    def test_without_the_flag_adapters_are_refused(self, engine: Engine, tmp_path: Path) -> None:
        if Capability.ADAPTERS in engine.capabilities:
            pytest.skip(f"the {engine.backend} backend has adapters")
        with pytest.raises(UnsupportedCapability):
            engine.set_adapters(self._adapters(tmp_path, (1, 1.0)))
        assert engine.info.adapters == ()

    def test_a_closed_engine_takes_no_adapters(
        self, backend: EngineBackend, tmp_path: Path
    ) -> None:
        engine = self.load(backend)
        self.needs(engine, Capability.ADAPTERS)
        engine.close()
        with pytest.raises(ClosedError):
            engine.set_adapters(self._adapters(tmp_path, (1, 1.0)))

    def _adapters(self, folder: Path, *wanted: tuple[int, float]) -> tuple[Adapter, ...]:
        """Adapters by the seed of their weights, with their scales."""
        for seed, _ in wanted:
            if not (path := folder / f"{seed}.gguf").exists():
                write_adapter(path, open_model(self.model), seed=seed)
        return read_adapters([(folder / f"{seed}.gguf", scale) for seed, scale in wanted])

    def _logits(self, engine: Engine) -> list[float]:
        self.read(engine, self.prompt(engine))
        return [*engine.logits()]
