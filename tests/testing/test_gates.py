"""The markers that gate tests by capability."""

from __future__ import annotations

import pytest

from llama_bridge import registry
from llama_bridge.testing import FakeBackend
from tests.testing import QUICK

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    able = FakeBackend()
    able.name = "able"
    poor = FakeBackend(lacks=["kv_continuation", "session_persistence"])
    poor.name = "poor"
    monkeypatch.setattr(registry, "backends", lambda: (able, poor))


def run(pytester: pytest.Pytester, body: str, *args: str) -> pytest.RunResult:
    pytester.makepyfile("import pytest\nfrom llama_bridge import Capability\n" + body)
    return pytester.runpytest_inprocess(*QUICK, "-ra", "--strict-markers", *args)


@pytest.mark.parametrize(
    "argument",
    [
        '"session_persistence"',
        '"SESSION_PERSISTENCE"',
        '"session-persistence"',
        "Capability.SESSION_PERSISTENCE",
    ],
)
def test_a_test_is_skipped_where_the_capability_is_missing(
    pytester: pytest.Pytester, argument: str
) -> None:
    body = f"@pytest.mark.requires_capability({argument})\ndef test_it(llama): pass"
    result = run(pytester, body)
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED * the poor backend lacks session_persistence"])


def test_several_are_asked_for_together_on_function_class_and_module(
    pytester: pytest.Pytester,
) -> None:
    body = """
pytestmark = pytest.mark.requires_capability("generate")

@pytest.mark.requires_capability("session_persistence")
class TestIt:
    @pytest.mark.requires_capability(Capability.STREAM, "kv_continuation")
    def test_it(self, llama_backend): pass

def test_without_a_backend(): pass
"""
    result = run(pytester, body)
    result.assert_outcomes(passed=2, skipped=1)
    result.stdout.fnmatch_lines(
        ["SKIPPED * the poor backend lacks kv_continuation, session_persistence"]
    )


def test_one_case_of_a_parametrised_test_can_be_gated(pytester: pytest.Pytester) -> None:
    body = """
gated = pytest.mark.requires_capability("kv_continuation")
@pytest.mark.parametrize("n", [1, pytest.param(2, marks=gated)])
def test_it(llama, n): pass
"""
    run(pytester, body).assert_outcomes(passed=3, skipped=1)


@pytest.mark.parametrize("fixture", ["llama", "llama_backend"])
def test_a_lack_is_proved_where_there_is_one(pytester: pytest.Pytester, fixture: str) -> None:
    body = f"""
@pytest.mark.lacks_capability("kv_continuation", "session_persistence")
def test_it({fixture}): pass
"""
    result = run(pytester, body)
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(
        ["SKIPPED * the able backend has kv_continuation, session_persistence: *"]
    )


def test_a_model_may_lack_what_its_backend_has(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Claims(FakeBackend):
        name = "claims"

        def load(self, *args: object) -> object:  # type: ignore[override]
            engine = super().load(*args)  # type: ignore[arg-type]
            engine.capabilities &= ~FakeBackend(capabilities="chat_template").capabilities
            return engine

    monkeypatch.setattr(registry, "backends", lambda: (Claims(),))
    body = """
@pytest.mark.requires_capability("chat_template")
def test_with(llama): pass

@pytest.mark.lacks_capability("chat_template")
def test_without(llama): assert llama.generate("raw text").text
"""
    result = run(pytester, body)
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(
        ["SKIPPED * the claims backend with llama-bridge demo lacks chat_template"]
    )


@pytest.mark.parametrize(
    ("marker", "complaint"),
    [
        (
            'requires_capability("kv_continuatoin")',
            "no capability named 'kv_continuatoin'; choose from:*",
        ),
        ('lacks_capability("flying")', "no capability named 'flying'; choose from:*"),
        ("requires_capability", "requires_capability takes names:*"),
        ("requires_capability(1)", "requires_capability(1): give a name or a Capability"),
    ],
)
def test_a_marker_that_cannot_be_read_stops_the_collection(
    pytester: pytest.Pytester, marker: str, complaint: str
) -> None:
    result = run(pytester, f"@pytest.mark.{marker}\ndef test_it(llama): pass")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *test_it?able?: {complaint}"])


def test_a_marker_that_would_gate_nothing_stops_the_collection(pytester: pytest.Pytester) -> None:
    body = '@pytest.mark.requires_capability("stream")\ndef test_it(fake_llama): pass'
    result = run(pytester, body)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *::test_it: requires_capability has no effect here: *"])


def test_the_markers_explain_themselves(pytester: pytest.Pytester) -> None:
    result = run(pytester, "", "--markers")
    result.stdout.fnmatch_lines(
        ["@pytest.mark.requires_capability(?capabilities): *", "@pytest.mark.lacks_capability(*"]
    )
