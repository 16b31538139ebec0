"""``python -m benchmarks``: runs the measurements, prints tables, checks the bounds."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_bridge import registry
from llama_bridge_wasm import artifact

from .app import measure_app
from .chats import measure_chats
from .embeddings import measure_embeddings
from .fleet import measure_fleet
from .fleet_sizes import measure_fleet_simulation
from .keeping import measure_keeping
from .kernels import measure_kernels
from .measure import machine
from .memory import measure_memory
from .models import find_models, large_vocabulary
from .numerics import measure_numerics
from .overhead import measure_overhead
from .parallel import measure_parallel
from .preflight import measure_preflight
from .pull import measure_pull
from .remote import measure_remote
from .report import Report
from .servers import measure_servers
from .serving import measure_serving
from .sessions import measure_sessions
from .speculation import measure_speculation
from .speed import measure_speed
from .startup import measure_startup
from .structured import measure_structured
from .tasks import measure_tasks
from .turns import measure_turns

SECTIONS = (
    "speed",
    "kernels",
    "numerics",
    "overhead",
    "structured",
    "speculation",
    "chats",
    "async",
    "serving",
    "embeddings",
    "parallel",
    "servers",
    "remote",
    "fleet",
    "fleet-simulation",
    "turns",
    "sessions",
    "keeping",
    "pull",
    "import",
    "memory",
    "preflight",
    "app",
)


@dataclass(frozen=True)
class Sizes:
    """The amount of work of each section."""

    n_prompt: int
    n_decode: int
    histories: list[int]
    kept: int
    imports: int
    context: int
    texts: int
    streamed: int
    callers: list[int]
    n_quoted: int
    kernels: dict[str, Any]


FULL = Sizes(256, 64, [512, 2048, 4096], 2048, 11, 2048, 128, 200, [1, 2, 4, 8, 16], 144, {})
QUICK = Sizes(
    32, 16, [64, 256], 256, 3, 512, 16, 20, [1, 2, 8], 24, {"shapes": ((256, 8),), "tokens": (1, 4)}
)


def options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="only check that it runs, with a tiny model"
    )
    parser.add_argument(
        "--model",
        action="append",
        metavar="FILE",
        help="a GGUF file, or q4_0, q8_0, q4_k_m, f16 (random, 0.5 B parameters) or 1.5b-q4_0; sections that measure "
        "only one model use the first (default: q4_0 and q8_0)",
    )
    parser.add_argument("--backends", default="", help="comma-separated (default: all available)")
    parser.add_argument("--sections", default=",".join(SECTIONS), help="comma-separated")
    parser.add_argument(
        "--rounds", type=int, default=0, help="rounds of each comparison (default: 8)"
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="threads of every contender (default: 1)"
    )
    parser.add_argument(
        "--prompt", type=int, default=0, help="tokens of the prompt in section speed"
    )
    parser.add_argument("--folder", type=Path, help="folder for session files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    parser.add_argument(
        "--check", action="store_true", help="exit with status 1 if a bound is missed"
    )
    return parser.parse_args()


def main() -> int:
    """Run the benchmarks and return the exit status."""
    given = options()
    sizes = QUICK if given.quick else FULL
    rounds = given.rounds or (2 if given.quick else 8)
    available = [found.name for found in registry.probe_all() if found.ok]
    backends = given.backends.split(",") if given.backends else available
    sections = given.sections.split(",")
    if unknown := sorted({*sections} - {*SECTIONS} | {*backends} - {*available}):
        print(f"unknown here: {', '.join(unknown)}", file=sys.stderr)
        return 2
    paths = find_models(given.model, given.quick)
    first = next(iter(paths.values()))
    report = Report(machine())
    for name, value in report.machine.items():
        print(f"{name:18} {value}")
    print(flush=True)

    if "speed" in sections:
        for label, path in paths.items():
            measure_speed(
                report,
                path,
                label,
                backends,
                has_native="native" in available,
                n_threads=given.threads,
                rounds=rounds,
                n_prompt=given.prompt or sizes.n_prompt,
                n_decode=sizes.n_decode,
            )
    if "kernels" in sections and "wasm" in backends:
        measure_kernels(report, **sizes.kernels)
    if "numerics" in sections and {"native", "wasm"} <= {*backends}:
        measure_numerics(report, stock=artifact.DEFAULT_PATH if given.quick else None)
    if "overhead" in sections:
        measure_overhead(
            report,
            find_models(None, quick=True)["tiny"],
            backends,
            n_threads=given.threads,
            rounds=max(4, rounds),
        )
    if "structured" in sections:
        measure_structured(
            report,
            find_models(None, quick=True)["tiny"] if given.quick else large_vocabulary(),
            backends,
            n_threads=given.threads,
            rounds=rounds,
        )
    if "speculation" in sections:
        measure_speculation(
            report,
            first,
            backends,
            n_threads=given.threads,
            rounds=max(4, rounds),
            n_decode=sizes.n_quoted,
            quick=given.quick,
        )
    if "chats" in sections:
        measure_chats(report, rounds=rounds)
    if "async" in sections:
        measure_tasks(
            report,
            find_models(None, quick=True)["tiny"],
            backends,
            n_threads=given.threads,
            rounds=max(4, 3 * rounds),
        )
    if "serving" in sections:
        measure_serving(report, rounds=max(1, rounds // 2), tokens=sizes.streamed)
    if "embeddings" in sections:
        measure_embeddings(
            report,
            backends,
            n_threads=given.threads,
            rounds=rounds,
            n_texts=sizes.texts,
            quick=given.quick,
        )
    if "parallel" in sections:
        measure_parallel(
            report,
            first,
            next(iter(paths)),
            backends,
            n_threads=given.threads,
            rounds=max(2, rounds // 2),
            callers=sizes.callers,
            n_prompt=sizes.n_prompt // 4,
            n_decode=sizes.n_decode,
            long_prompt=sizes.histories[-1] // 2,
        )
    if "servers" in sections and "native" in backends and not given.quick:
        measure_servers(
            report,
            first,
            next(iter(paths)),
            n_threads=given.threads,
            rounds=max(2, rounds // 4),
            callers=sizes.callers,
            n_prompt=sizes.n_prompt // 4,
            n_decode=sizes.n_decode,
        )
    if "remote" in sections and "native" in backends:
        measure_remote(report, n_threads=given.threads, rounds=max(2, 2 * rounds))
    if "fleet" in sections and "native" in backends:
        measure_fleet(
            report,
            "demo" if given.quick else str(first),  # it has a chat template
            next(iter(paths)),
            n_threads=given.threads,
            rounds=max(2, rounds // 2),
            history=sizes.kept,
            turns=2 if given.quick else 5,
            conversations=16 if given.quick else 64,
        )
    if "fleet-simulation" in sections:
        measure_fleet_simulation(report, quick=given.quick)
    if "turns" in sections:
        for backend in backends:
            measure_turns(
                report,
                first,
                backend,
                n_threads=given.threads,
                rounds=max(2, rounds // 3),
                histories=sizes.histories,
            )
    if "sessions" in sections and "native" in backends:
        measure_sessions(
            report,
            first,
            n_threads=given.threads,
            rounds=max(rounds, sizes.imports),
            histories=sizes.histories,
            folder=given.folder,
        )
    if "keeping" in sections and "native" in backends:
        measure_keeping(
            report,
            first,
            n_threads=given.threads,
            rounds=max(rounds, sizes.imports),
            history=sizes.kept,
            folder=given.folder,
        )
    if "pull" in sections:
        measure_pull(report, backends, rounds=rounds, quick=given.quick)
    if "import" in sections:
        measure_startup(report, rounds=sizes.imports)
    if "memory" in sections:
        measure_memory(report, first, backends, n_ctx=sizes.context, n_prompt=sizes.context // 2)
    if "preflight" in sections:
        measure_preflight(report, rounds=rounds, quick=given.quick)
    if "app" in sections:
        measure_app(report, rounds=rounds, quick=given.quick)

    print("Bounds" + (" (of a tiny model: they mean nothing)" if given.quick else ""))
    for bound in report.bounds:
        print(f"  {bound}")
    if given.json:
        report.write(given.json)
    return 1 if given.check and report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
