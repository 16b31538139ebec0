"""What it costs to look at a model before an engine does: its header, the checks of it, and its fingerprint."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llama_bridge.models.preflight import check_model
from llama_bridge.models.source import open_model
from llama_bridge.models.tokenizer_preflight import check_tokenizer
from llama_bridge.params import ModelParams
from tools.random_model import QWEN2_HALF_BILLION, write_model

from .measure import spread
from .report import Report, ms

__all__ = ["measure_preflight"]

_SHAPES: dict[str, dict[str, Any]] = {
    "0.5 GB": {"quantization": "q8_0"},
    "1.5 GB": {"quantization": "q8_0", "n_embd": 1536, "n_head": 12, "n_ff": 8960, "n_layer": 28},
    "3.3 GB": {"quantization": "q8_0", "n_embd": 2048, "n_head": 16, "n_ff": 11008, "n_layer": 36},
}
_PARAMS = ModelParams()
_LIMIT = 0.050
_MB = 1e6


def measure_preflight(report: Report, *, rounds: int, quick: bool) -> None:
    """Headers with 151,936 words, in files whose weights are holes: nothing may read them."""
    rows = []
    with TemporaryDirectory() as folder:
        for name, shape in [*_SHAPES.items()][: 1 if quick else None]:
            path = Path(folder, f"{name}.gguf")
            parameters: dict[str, Any] = {**QWEN2_HALF_BILLION, **shape}
            write_model(path, hollow=True, **parameters)
            found = [_seconds(path) for _ in range(max(5, rounds))]
            header, checks, prints = (spread(list(times)) for times in zip(*found, strict=True))
            rows.append(
                [
                    f"{path.stat().st_size / _MB:,.0f} MB",
                    ms(header),
                    ms(checks),
                    ms(prints),
                    f"{_peak(path) / _MB:.0f}",
                ]
            )
            if name == "0.5 GB":
                report.bound(
                    f"preflight of 0.5 GB and 151,936 words under {_LIMIT * 1e3:.0f} ms of processor time",
                    checks.low,
                    checks.low < _LIMIT,  # what else runs on the machine only adds to it
                    ms(checks),
                )
    report.table(
        "Before the engine: header and preflight",
        ["file", "header, ms", "preflight, ms", "fingerprint, ms", "peak memory, MB"],
        rows,
        "In processor time. The memory is that of Python's objects.",
    )


def _seconds(path: Path) -> tuple[float, float, float]:
    begin = time.process_time()
    model = open_model(path)
    between = time.process_time()
    check_model(model, _PARAMS)
    check_tokenizer(model)
    checked = time.process_time()
    assert model.fingerprint
    return between - begin, checked - between, time.process_time() - checked


def _peak(path: Path) -> int:
    tracemalloc.start()
    try:
        model = open_model(path)
        check_model(model, _PARAMS)
        check_tokenizer(model)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
