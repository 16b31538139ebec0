"""What is told while a model is loaded, and what becomes of a load that is ended from there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from llama_bridge.errors import ClosedError, EngineError, InvalidModel, OutOfMemory
from llama_bridge.models.source import ModelFile
from llama_bridge.params import ModelParams
from llama_bridge.progress import OnProgress, Progress
from llama_bridge_wasm import BACKEND, WasmBackend
from llama_bridge_wasm.abi import BadPointer, Guest
from llama_bridge_wasm.engine.reading import Reading

SMALL = ModelParams(n_ctx=256, n_threads=1)


def load(demo: ModelFile, on_progress: OnProgress | None = None) -> list[int]:
    """Load the model and use it; what three tokens of its answer are."""
    engine = BACKEND.load(demo, SMALL, on_progress)
    try:
        assert engine.decode([1, 2, 3]) == 3
        return engine.tokenize("Hello!", add_special=False, parse_special=False)
    finally:
        engine.close()


def test_a_load_is_told_from_its_first_byte_to_its_last(wasm: Path, demo: ModelFile) -> None:
    steps: list[Progress] = []
    load(demo, steps.append)
    steps = [step for step in steps if step.stage == "load"]
    size = demo.header.file_size
    assert {(step.total, step.unit) for step in steps} == {(size, "bytes")}
    done = [step.done for step in steps]
    assert done == sorted(set(done)), "each is further than the one before"
    assert (done[0], done[-1]) == (0, size)
    assert 10 < len(done) <= 103


def test_a_module_that_is_at_hand_is_not_compiled_again(wasm: Path, demo: ModelFile) -> None:
    load(demo)
    steps: list[Progress] = []
    load(demo, steps.append)
    assert {step.stage for step in steps} == {"load"}


@pytest.fixture
def guests(monkeypatch: pytest.MonkeyPatch) -> list[Guest]:
    """Those that the backend makes."""
    made: list[Guest] = []
    make = WasmBackend._guest

    def remembered(*args: object) -> Guest:
        made.append(make(*args))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(WasmBackend, "_guest", remembered)
    return made


class _OwnError(Exception):
    pass


@pytest.mark.parametrize(
    "error",
    [
        _OwnError("enough"),
        BadPointer(0, 4),
        OSError("as a file that cannot be read has it"),
        EngineError("as a trap has it"),
        OutOfMemory("m.gguf", "as llama.cpp has it"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("at", [0.0, 0.001, 0.5, 1.0])
def test_what_on_progress_raises_ends_the_load_and_comes_out_as_it_is(
    wasm: Path,
    demo: ModelFile,
    guests: list[Guest],
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
    at: float,
) -> None:
    cause = error.__cause__ = ValueError("why")
    calls_after = -1

    def end(step: Progress) -> None:
        nonlocal calls_after
        if step.done >= at * step.total and step.stage == "load":
            calls_after += 1
            raise error

    threads = threading.active_count()
    with pytest.raises(type(error)) as caught:
        load(demo, end)
    assert caught.value is error
    assert error.__cause__ is cause
    assert calls_after == 0
    assert threading.active_count() <= threads  # one of another test may have ended meanwhile
    assert not [r for r in caplog.records if r.levelname == "ERROR"], (
        "nothing of llama.cpp's to mend"
    )
    with pytest.raises(ClosedError):
        guests[0].call("lb_length", 0)
    assert load(demo) == load(demo, lambda step: None)


def test_a_load_that_fails_by_itself_never_says_it_is_done(
    wasm: Path, demo: ModelFile, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.gguf"
    data = bytearray(demo.path.read_bytes())
    at = data.index(b"blk.1.ffn_up.weight")
    data[at : at + 5] = b"xxx.1"
    damaged.write_bytes(data)
    steps: list[Progress] = []
    with pytest.raises(Exception, match="damaged") as caught:
        BACKEND.load(ModelFile(damaged, demo.header), SMALL, steps.append)
    assert not isinstance(caught.value, InvalidModel)
    assert steps[-1].stage == "load"
    assert steps[-1].done < steps[-1].total


class TestReading:
    """The steps, of a file that is read a byte at a time, more than once, or all at once."""

    @pytest.mark.parametrize(("size", "piece"), [(100_000, 1), (100_000, 70_000), (3, 1), (1, 1)])
    def test_steps_are_few_and_in_order(self, size: int, piece: int) -> None:
        steps: list[Progress] = []
        reading = Reading(size, steps.append)
        reading.begin()
        for _ in range(2 * size // piece):
            reading.add(piece)
        assert all(step.done < size for step in steps), "not while it is read"
        reading.finish()
        done = [step.done for step in steps]
        assert done == sorted(set(done))
        assert (done[0], done[-1]) == (0, size)
        assert len(done) <= 103

    def test_nobody_needs_to_listen(self) -> None:
        reading = Reading(10, None)
        steps: list[Callable[[], None]] = [reading.begin, lambda: reading.add(20), reading.finish]
        for step in steps:
            step()
        assert reading.failure is None
