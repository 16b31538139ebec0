"""Loading a session after a restart, which is what the file is for.

``python -m benchmarks.restart MODEL SESSION PLAIN N_CTX FIRST`` is the restarted process. It loads the
model, then the session and the plain file, in the order of ``FIRST``, and prints the times as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from llama_bridge import LlamaBridge, ModelParams

from .measure import seconds

__all__ = ["LOAD", "READ", "restart"]

LOAD, READ = "session_load after a restart", "plain read after a restart"


def restart(
    model: Path, session: Path, plain: Path, n_ctx: int, rounds: int
) -> dict[str, list[float]]:
    """Seconds of the first ``session_load`` and of the first plain read in a new process, by round."""
    results: dict[str, list[float]] = {LOAD: [], READ: []}
    for turn in range(rounds):
        print(f"restart: round {turn + 1} of {rounds}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "benchmarks.restart", str(model), str(session), str(plain)]
        command += [str(n_ctx), (LOAD, READ)[turn % 2]]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        for name, value in json.loads(output).items():
            results[name].append(value)
    return results


def _main(model: str, session: str, plain: str, n_ctx: int, first: str) -> None:
    with LlamaBridge(
        model, backend="native", params=ModelParams(n_ctx=n_ctx, n_threads=1)
    ) as llama:
        work = {LOAD: lambda: llama.session_load(session), READ: Path(plain).read_bytes}
        order = sorted(work, key=lambda name: name != first)
        print(json.dumps({name: seconds(work[name]) for name in order}))


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
