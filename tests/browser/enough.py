"""Whether a run of the suite inside Pyodide was enough."""

from __future__ import annotations

from .outside import Outcome

__all__ = ["MUST_RUN_IN_BROWSERS", "check"]


def check(outcome: Outcome, *more: str, at_least: int) -> None:
    """Nothing failed, nothing was left out without a reason, and enough was really run.

    Args:
        outcome: of the suite.
        more: files that must have run, beside those that must on every host.
        at_least: how many tests.

    Raises:
        AssertionError: with what is wrong.
    """
    assert not outcome.failed, outcome
    assert outcome.status == 0, outcome
    assert not outcome.complaints
    assert all(outcome.gated.values())
    ran = {test.partition("::")[0] for test in outcome.ran}
    missing = {f"tests/{name}.py" for name in (*MUST_RUN, *more)} - ran
    assert not missing, f"{outcome.host}: {sorted(missing)} did not run"
    assert len(outcome.ran) >= at_least


MUST_RUN = (
    "testing/test_conformance",
    "testing/test_fake",
    "testing/test_gates",
    "testing/test_plugin",
    "testing/test_runtime_conformance",
    "wasm/test_abi",
    "wasm/test_engine",
    "wasm/test_memory",
    "wasm/test_recovery",
    "wasm/hosts/test_sandbox",
)
"""On every host."""
MUST_RUN_IN_BROWSERS = (
    "bridge/test_attacks",
    "bridge/test_generation",
    "bridge/test_life",
    "bridge/test_params",
    "bridge/test_prompt",
    "bridge/test_registry",
    "bridge/test_text_runtime",
    "chat/test_template",
    "local/test_half_read",
    "local/test_ledger_rule",
    "local/test_text_and_stops",
    "models/test_gguf",
    "wasm/hosts/test_threads",
)
"""Of the whole suite."""
