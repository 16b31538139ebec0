"""Run it: see the package's docstring."""

from __future__ import annotations

import argparse
import sys

from .runner import ATTACKS, run


def main() -> int:
    """The command line; 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description="Attack a bridge.")
    parser.add_argument("--seconds", type=float, default=120, help="for each attack (120)")
    parser.add_argument("--seed", type=int, default=0, help="which tries come first (0)")
    parser.add_argument("--attacks", default=",".join(ATTACKS), help="comma-separated (all)")
    options = parser.parse_args()
    names = options.attacks.split(",")
    if unknown := sorted({*names} - {*ATTACKS}):
        parser.error(f"no such attack: {', '.join(unknown)}; there are: {', '.join(ATTACKS)}")
    print(f"{'attack':12} {'tries':>8} {'found':>6} {'seconds':>8}")
    failed = False
    for name in names:
        outcome = run(ATTACKS[name], seed=options.seed, seconds=options.seconds)
        end = "all of it" if outcome.whole else "time over"
        print(
            f"{name:12} {outcome.tries:8} {len(outcome.found):6} {outcome.seconds:8.0f}  {end}",
            flush=True,
        )
        for found in outcome.found[:20]:
            print(f"  - {found}")
        failed |= bool(outcome.found)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
