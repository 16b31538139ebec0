"""``python -m tools.fleet [OPTIONS OF PYTEST]``: checks the types of what imports Ray, and runs a fleet of real replicas."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from tools.project import needs_of_fleet
from tools.steps import ROOT, Clock, StepFailed
from tools.without_native.environment import Environment

__all__ = ["main"]

_SECONDS = 900
_RAY = ("bridge/llama_bridge/serve/ray.py", "bridge/llama_bridge/serve/ray_router.py")
_TESTS = ("tests/fleet/test_on_ray.py", "tests/fleet/test_on_ray_nodes.py")
_OTHERS = ("tests/fleet/test_manifests.py",)


def main(options: list[str]) -> int:
    """Run the checks and return the exit status."""
    clock = Clock(_SECONDS)
    native = importlib.util.find_spec("llama_cpp") is not None
    try:
        with Environment(Path(sys.executable), needs_of_fleet(native), clock) as environment:
            environment.install("--editable", ROOT, native=native)
            print(f"fleet: ready after {clock.used:.0f} s", flush=True)
            print(environment.run("types", "-m", "mypy", *_RAY, *_TESTS))
            # Ray and what it imports warn of much that is not ours.
            command = [str(environment.python), "-m", "pytest", "-W", "default"]
            command += options or [*_TESTS, *_OTHERS]
            return subprocess.run(command, cwd=ROOT, timeout=clock.left("the tests")).returncode
    except subprocess.TimeoutExpired:
        print(f"fleet: {clock.over('the tests')}", file=sys.stderr)
    except StepFailed as error:
        print(f"fleet: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
