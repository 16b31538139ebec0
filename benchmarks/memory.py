"""Peak memory of a process that loads a model, evaluates a prompt and answers.

``python -m benchmarks.memory BACKEND MODEL N_CTX N_PROMPT`` prints its own peak, in bytes, as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from llama_bridge import LlamaBridge, ModelParams, SamplingParams
from llama_bridge.models.fitting import NATIVE, WASM, need_of
from llama_bridge.models.memory import kv_bytes_per_token

from .contenders import text_of
from .report import Report

__all__ = ["measure_memory", "peak_bytes"]

_ALLOWANCE = 200e6


def measure_memory(
    report: Report, model: Path, backends: list[str], *, n_ctx: int, n_prompt: int
) -> None:
    """One process per backend, and the bound on wasm."""
    rows = []
    for backend in backends:
        print(f"memory, {backend}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "benchmarks.memory", backend, str(model)]
        command += [str(n_ctx), str(n_prompt)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found: dict[str, int] = json.loads(output)
        needed = found["model"] + found["kv"]
        rows.append(
            [backend]
            + [f"{found[name] / 1e6:.0f}" for name in ("peak", "before", "model", "kv")]
            + [f"{(found['peak'] - needed) / 1e6:+.0f}", f"{found['table'] / 1e6:.0f}"]
            + [f"{(found['peak'] - found['before']) / 1e6:.0f}"]
        )
        if backend == "wasm":
            report.bound(
                "wasm peak memory at most model + KV + 200 MB",
                found["peak"],
                found["peak"] <= needed + _ALLOWANCE,
                f"{found['peak'] / 1e6:.0f} MB of {(needed + _ALLOWANCE) / 1e6:.0f}",
            )
    report.table(
        f"Peak memory: context of {n_ctx:,} tokens, prompt of {n_prompt:,}",
        [
            "",
            "peak, MB",
            "before load",
            "model",
            "KV",
            "beyond both",
            "memory table",
            "peak less before",
        ],
        rows,
        "Of the whole process; of a mapped model file, the pages that were touched count. The memory table is computed from the "
        "header.",
    )


def peak_bytes() -> int:
    """The peak memory of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(s for s in status.read_text().splitlines() if s.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource  # macOS counts bytes here, not kilobytes

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _main(backend: str, model: str, n_ctx: int, n_prompt: int) -> None:
    before = peak_bytes()
    with LlamaBridge(model, backend=backend, params=ModelParams(n_ctx=n_ctx)) as llama:
        prompt = text_of(n_prompt, lambda text: len(llama.tokenize(text)))
        llama.generate(prompt, sampling=SamplingParams(max_tokens=16, temperature=0), chat=False)
        header, n_ctx = llama.model.header, llama.info.n_ctx
        place = {"native": NATIVE, "wasm": WASM}.get(backend)
        need = None if place is None else need_of(header, ModelParams(n_ctx=n_ctx), place, n_ctx)
        found = {
            "peak": peak_bytes(),
            "before": before,
            "model": header.file_size,
            "kv": (kv_bytes_per_token(header) or 0) * n_ctx,
            "table": need.total if need else 0,
        }
    print(json.dumps(found))


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
