"""The pytest plugin as a user's test run meets it, on made-up backends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llama_bridge import BackendUnavailable, registry
from llama_bridge.testing import FakeBackend
from tests.testing import QUICK

pytest_plugins = ["pytester"]

needs_threads = pytest.mark.skipif(sys.platform == "emscripten", reason="needs threads")
needs_processes = pytest.mark.skipif(sys.platform == "emscripten", reason="needs processes")


class CountingBackend(FakeBackend):
    """A fake under another name that counts its loads."""

    def __init__(
        self, name: str, rank: int, *, lacks: tuple[str, ...] = (), missing: str = ""
    ) -> None:
        error = BackendUnavailable(name, missing, f"pip install {name}") if missing else None
        super().__init__(lacks=lacks, load_error=error)
        self.name, self.rank, self.loads = name, rank, 0

    def load(self, *args: object) -> object:  # type: ignore[override]
        self.loads += 1
        return super().load(*args)  # type: ignore[arg-type]


@pytest.fixture
def able() -> CountingBackend:
    return CountingBackend("able", 2)


@pytest.fixture
def poor() -> CountingBackend:
    return CountingBackend("poor", 1, lacks=("kv_continuation", "session_persistence"))


@pytest.fixture(autouse=True)
def _installed(
    monkeypatch: pytest.MonkeyPatch, able: CountingBackend, poor: CountingBackend
) -> None:
    absent = CountingBackend("absent", 0, missing="its library is not installed")
    monkeypatch.setattr(registry, "backends", lambda: (able, poor, absent))


def run(pytester: pytest.Pytester, source: str, *args: str) -> pytest.RunResult:
    pytester.makepyfile(source)
    pytester.makepyprojecttoml('[tool.pytest.ini_options]\naddopts = "-ra --strict-markers"')
    return pytester.runpytest_inprocess(*QUICK, *args)


def lines_of_ours(result: pytest.RunResult) -> list[str]:
    """pytest itself names the plugin and its version in its own line."""
    return [line for line in result.outlines if line.startswith("llama-bridge")]


USES_LLAMA = "def test_it(llama): assert llama.generate('hi').text == 'You said: hi'"


def test_the_header_names_backends_versions_and_why_one_is_missing(
    pytester: pytest.Pytester,
) -> None:
    result = run(pytester, USES_LLAMA)
    result.stdout.fnmatch_lines(
        [
            "llama-bridge *: able (fake), poor (fake); absent unavailable: its library is not installed"
        ]
    )


def test_a_run_that_names_a_backend_says_so_at_once(pytester: pytest.Pytester) -> None:
    result = run(pytester, "def test_it(): pass", "--llama-backend=able")
    result.stdout.fnmatch_lines(
        ["llama-bridge *: able (fake); absent unavailable: *", "collected *"]
    )
    assert len(lines_of_ours(result)) == 1


def test_a_run_that_only_gates_says_it_too(pytester: pytest.Pytester) -> None:
    source = "import pytest\n@pytest.mark.requires_capability('stream')\ndef test_it(llama_backend): pass"
    run(pytester, source).stdout.fnmatch_lines(
        ["collected *", "llama-bridge *: able (fake), poor *"]
    )


@pytest.mark.parametrize("source", ["def test_it(): pass", "def test_it(fake_llama): pass"])
def test_a_run_that_uses_no_backend_has_no_line_of_ours(
    pytester: pytest.Pytester, source: str
) -> None:
    result = run(pytester, source)
    result.assert_outcomes(passed=1)
    assert lines_of_ours(result) == []


def test_somebody_elses_fixture_of_the_same_name_is_theirs(pytester: pytest.Pytester) -> None:
    source = """
        import pytest

        @pytest.fixture
        def llama():
            return "an animal"

        def test_it(llama):
            assert llama == "an animal"
    """
    result = run(pytester, source)
    result.assert_outcomes(passed=1)
    assert lines_of_ours(result) == []


@needs_processes
def test_an_unrelated_run_imports_nothing_and_pays_less_than_5_ms(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        "import sys\n"
        "def test_it():\n"
        "    loaded = [name for name in sys.modules if name.partition('.')[0].startswith('llama_bridge')]\n"
        "    assert loaded == ['llama_bridge_pytest']\n"
    )
    code = (
        "import sys, time, pytest\n"
        "def spent():\n"
        "    sys.modules.pop('llama_bridge_pytest', None)\n"
        "    start = time.process_time()\n"
        "    import llama_bridge_pytest\n"
        "    return time.process_time() - start\n"
        "spent = min(spent() for _ in range(9))\n"
        "code = pytest.main(['-q', '-p', 'no:hypothesispytest', '-p', 'no:cacheprovider', '-W', 'ignore'])\n"
        "print(int(code), spent < 0.005, spent)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=pytester.path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines()[-1].startswith("0 True"), done.stdout + done.stderr
    assert "llama-bridge" not in done.stdout


def test_a_test_runs_once_for_each_available_backend(pytester: pytest.Pytester) -> None:
    result = run(pytester, USES_LLAMA, "-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*::test_it?able? PASSED*", "*::test_it?poor? PASSED*"])


def test_the_option_chooses_backends(pytester: pytest.Pytester, able: CountingBackend) -> None:
    run(pytester, USES_LLAMA, "--llama-backend", "poor").assert_outcomes(passed=1)
    assert able.loads == 0


def test_the_ini_chooses_and_the_option_overrules_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(USES_LLAMA)
    pytester.makepyprojecttoml('[tool.pytest.ini_options]\nllama_backend = "poor"')
    chosen = pytester.runpytest_inprocess(*QUICK, "-v")
    chosen.assert_outcomes(passed=1)
    chosen.stdout.fnmatch_lines(["*::test_it?poor? PASSED*"])
    overruled = pytester.runpytest_inprocess(*QUICK, "--llama-backend=able, poor,able")
    overruled.assert_outcomes(passed=2)


@pytest.mark.parametrize("names", ["nonsense", "able,nonsense", "", "able,"])
def test_an_unknown_backend_is_a_usage_error_that_lists_those_there_are(
    pytester: pytest.Pytester, names: str
) -> None:
    result = run(pytester, USES_LLAMA, f"--llama-backend={names}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *no backend named *; installed: able, poor, absent"])


def test_a_missing_backend_that_was_asked_for_is_an_error_not_a_skip(
    pytester: pytest.Pytester,
) -> None:
    source = (
        "import pytest\n"
        "def test_plain(llama): pass\n"
        "@pytest.mark.requires_capability('session_persistence')\n"
        "def test_gated(llama): pass\n"
    )
    result = run(pytester, source, "--llama-backend=absent,able")
    result.assert_outcomes(passed=2, errors=2)
    result.stdout.fnmatch_lines(
        [
            "backend 'absent' is not available: its library is not installed",
            "pip install absent",
            "or use one that is available here: able, poor",
        ]
    )


def test_with_no_backend_at_all_tests_fail_and_say_why(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = CountingBackend("absent", 0, missing="its library is not installed")
    monkeypatch.setattr(registry, "backends", lambda: (absent,))
    result = run(pytester, USES_LLAMA)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*absent: its library is not installed*"])


def test_a_missing_model_is_a_clear_error(pytester: pytest.Pytester) -> None:
    result = run(pytester, USES_LLAMA, "--llama-model=nowhere.gguf", "--llama-backend=able")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["ModelNotFound: nowhere.gguf: no such file*"])


def test_a_model_in_the_ini_file_is_relative_to_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(USES_LLAMA)
    pytester.makepyprojecttoml('[tool.pytest.ini_options]\nllama_model = "models/mine.gguf"')
    result = pytester.runpytest_inprocess(*QUICK, "--llama-backend=able")
    result.stdout.fnmatch_lines([f"ModelNotFound: {pytester.path}/models/mine.gguf: no such file*"])


def test_collecting_imports_no_engine(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(USES_LLAMA)
    code = (
        "import sys, pytest\n"
        "code = pytest.main(['--collect-only', '-q', '-p', 'no:hypothesispytest'])\n"
        "print(code, sorted({'llama_cpp', 'wasmtime', 'numpy'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=pytester.path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines()[-1] == "0 []", done.stdout + done.stderr


# one model for many tests


def test_the_model_is_loaded_once_for_each_backend(
    pytester: pytest.Pytester, able: CountingBackend, poor: CountingBackend
) -> None:
    pytester.makepyfile(test_other=USES_LLAMA)
    source = "import pytest\n@pytest.mark.parametrize('n', range(3))\ndef test_it(llama, n): pass"
    run(pytester, source).assert_outcomes(passed=8)
    assert (able.loads, poor.loads) == (1, 1)


def test_every_test_finds_the_model_as_new(
    pytester: pytest.Pytester, able: CountingBackend, poor: CountingBackend
) -> None:
    source = """
        import pytest
        from llama_bridge import FallbackWarning, Mode, SamplingParams

        @pytest.mark.parametrize("n", range(2))
        def test_it(llama, n):
            assert not llama.session().active
            assert llama.sampling.temperature == 0
            assert llama.system is None
            llama.generate("something to continue")
            llama.sampling = SamplingParams(temperature=2)
            llama.system = "You are a pirate."

        @pytest.mark.lacks_capability("kv_continuation")
        @pytest.mark.parametrize("n", range(2))
        def test_each_sees_the_warning(llama, n):
            assert llama.generate_continue("hi").mode is Mode.FRESH
            with pytest.warns(FallbackWarning):
                assert llama.generate_continue("and?").mode is Mode.FRESH
    """
    run(pytester, source).assert_outcomes(passed=6, skipped=2)
    assert (able.loads, poor.loads) == (1, 1)


@needs_threads
def test_an_answer_that_a_test_left_half_read_does_not_reach_the_next(
    pytester: pytest.Pytester, able: CountingBackend
) -> None:
    source = """
        import threading

        kept = []

        def test_here(llama):
            kept.append(llama.generate_stream("a long question"))
            next(kept[0])

        def test_elsewhere(llama):
            assert not llama.session().active
            def start():
                kept.append(llama.generate_stream("a long question"))
                next(kept[1])
            thread = threading.Thread(target=start)
            thread.start()
            thread.join()

        def test_then(llama):
            assert llama.generate("hi").text == "You said: hi"
    """
    run(pytester, source, "--llama-backend=able").assert_outcomes(passed=3)
    assert able.loads == 1


@pytest.mark.parametrize(
    ("spoil", "loads"),
    [
        ("llama.close()", {2}),
        ("llama.load_model('demo')", {3}),
        # Whether its thread is still inside the generation when the test ends is a matter of luck.
        pytest.param(
            "threading.Thread(target=list, args=[llama.generate_stream('x' * 999)]).start()",
            {1, 2},
            marks=needs_threads,
        ),
    ],
)
def test_a_spoiled_model_is_loaded_again(
    pytester: pytest.Pytester, able: CountingBackend, spoil: str, loads: set[int]
) -> None:
    source = f"import threading\n\ndef test_a(llama):\n    {spoil}\n\n{USES_LLAMA}"
    run(pytester, source, "--llama-backend=able").assert_outcomes(passed=2)
    assert able.loads in loads


def test_a_backend_without_a_model_for_tests_that_load_their_own(
    pytester: pytest.Pytester, able: CountingBackend
) -> None:
    source = "def test_it(llama_backend): assert llama_backend in ('able', 'poor')"
    run(pytester, source).assert_outcomes(passed=2)
    assert able.loads == 0


def test_fakes_are_closed_by_the_end_of_the_test(pytester: pytest.Pytester, tmp_path: Path) -> None:
    source = """
        made, paths = [], []

        def test_make(fake_llama):
            made.append(fake_llama())
            paths.append(made[0].model.path)
            assert made[0].generate("hi").text == "You said: hi"

        def test_closed():
            import pytest
            from llama_bridge import ClosedError
            with pytest.raises(ClosedError):
                made[0].generate("hi")
            assert not paths[0].exists()
    """
    run(pytester, source).assert_outcomes(passed=2)
