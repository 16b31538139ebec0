"""Packs the suite for Pyodide, and gathers what comes back."""

from __future__ import annotations

import importlib.util
import json
import tomllib
import zipfile
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from llama_bridge import LlamaBridge
from llama_bridge.serve import ServerSettings, app
from tests.remote.servers import llama_server
from tests.serve.serving import serving
from tools.browser import fetch, site
from tools.browser.browsers import find, messages
from tools.browser.server import CSP, serve
from tools.pyodide import venv
from tools.pyodide.environment import environment

__all__ = [
    "FIREFOX_OPTIONS",
    "OPTIONS",
    "Outcome",
    "lay_out",
    "pack",
    "run_in_browser",
    "run_in_browsers",
    "run_on_node",
]

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PAGE = HERE / "page"

_INSIDE = ("__init__.py", "inside.py")
_PACKED = ("tests/**/*.py", "examples/*.py", "examples/gated_tests/*")
_LONG = ("grammars_by_chance", "numbers", "official_suite", "schemas_by_chance")
"""In tests/structured: what computes for a minute in a page, in Python that is the same everywhere."""
OPTIONS = [
    "--llama-backend=wasm",
    *("-m", "not slow", "--assert=plain"),
    *(f"--ignore=tests/structured/test_{name}.py" for name in _LONG),
    "tests",
]
"""For pytest. Taking asserts apart would double the time; in a page each file is compiled anew."""
FIREFOX_OPTIONS = [
    *OPTIONS[:-1],
    *("--ignore=tests/wasm/test_long_texts.py", "--ignore=tests/chat/test_families.py"),
    *(f"tests/{room}" for room in ("bridge", "chat", "local", "models", "testing", "wasm")),
]
"""What its engine and its storage may do in another way. The rest is Python's, and ran in Chromium."""
NODE_OPTIONS = [*OPTIONS[:-1], "tests/wasm", "tests/testing", "tests/chat"]
"""What is another on Node: the host, the plugin, and packages from pip. The rest runs in Chromium, which has the same V8."""


@dataclass
class Outcome:
    """What a run of the suite came to.

    Attributes:
        host: what ran it, in words.
        ran: tests that passed.
        gated: why, by test or by file of tests.
        failed: tracebacks by test.
        status: of pytest.
        printed: what pytest wrote.
        complaints: what the page's console said of errors.
        seconds: by test.
    """

    host: str
    ran: list[str] = field(default_factory=list)
    gated: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    status: int | None = None
    printed: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, test: Mapping[str, Any]) -> None:
        """Count what :mod:`.inside` told."""
        name, why = str(test["test"]), str(test["why"])
        self.seconds[name] = float(test["seconds"])
        if test["outcome"] == "passed":
            self.ran.append(name)
        elif test["outcome"] == "skipped":
            self.gated[name] = why
        else:
            self.failed[name] = why

    def __str__(self) -> str:
        lines = [
            f"wasm on {self.host}: {len(self.ran)} ran, {len(self.gated)} tests and files gated:"
        ]
        reasons = Counter(self.gated.values())
        lines += [f"  {count:4d}  {reason}" for reason, count in reasons.most_common()]
        lines += [f"  FAILED {test}\n{why}" for test, why in self.failed.items()]
        if self.status != 0 and not self.failed:
            lines += self.printed
        return "\n".join([*lines, *self.complaints])


def pack(archive: Path) -> Path:
    """A zip of the tests as they are, with a pytest.ini that holds what pyproject.toml says."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        ini: dict[str, Any] = tomllib.load(file)["tool"]["pytest"]["ini_options"]
    del ini["timeout"]  # of a plugin that needs threads or signals
    # Python's library is in a zip there; what reads it where a test ends the stack leaves it open.
    ini["filterwarnings"].append(
        r"ignore:unclosed file .* name='/lib/python\d+.zip':ResourceWarning"
    )
    ini["markers"].append("timeout: does nothing here")
    lines = ["[pytest]"]
    for name, value in ini.items():
        values: Sequence[str] = value if isinstance(value, list) else [str(value)]
        lines += [f"{name} =", *(f"    {line}" for line in values)]
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for pattern in _PACKED:
            for path in sorted(ROOT.glob(pattern)):
                if path.parent != HERE or path.name in _INSIDE:
                    file.write(path, path.relative_to(ROOT))
        file.writestr("pytest.ini", "\n".join(lines) + "\n")
    return archive


def lay_out(folder: Path, options: Sequence[str] = OPTIONS) -> Path:
    """The site that runs the suite."""
    site.lay_out(folder, extra=[PAGE], tests=fetch.TESTS)
    pack(folder / "suite.zip")
    (folder / "options.json").write_text(json.dumps(list(options)))
    return folder


@contextmanager
def servers(folder: Path) -> Generator[dict[str, str]]:
    """Servers that a page may ask, for the tests of the remote backend there, as ``tests/remote/conftest.py`` has them."""
    open_to_pages = ServerSettings(cors_origins=("*",))
    with ExitStack() as stack:
        found = {}
        for name, backend in (("bridge", "native"), ("forgetful", "wasm")):
            llama = stack.enter_context(LlamaBridge("demo", backend=backend, n_parallel=4))
            at = stack.enter_context(serving(app(llama, settings=open_to_pages)))
            found[name] = f"http://127.0.0.1:{at.port}"
        if importlib.util.find_spec("xllamacpp"):
            found["llama_cpp"] = stack.enter_context(llama_server(folder / "slots")).url
        yield found


def run_in_browser(
    browser: str, folder: Path, *, seconds: float = 280, asked: Mapping[str, str] | None = None
) -> Outcome:
    """Run the suite of a site in a browser.

    Args:
        browser: its name.
        folder: has the site.
        seconds: how long it may take.
        asked: servers that it may ask, see :func:`servers`.
    """
    version = json.loads((fetch.pyodide() / "package.json").read_text())["version"]
    outcome = Outcome(browser)
    csp = CSP
    if asked:
        csp += f"; connect-src 'self' {' '.join(asked.values())}"
        named = f"LLAMA_BRIDGE_SERVERS={json.dumps(dict(asked))}"
        options = json.loads((folder / "options.json").read_text())
        options = [named, *(word for word in options if not word.startswith("LLAMA_BRIDGE_"))]
        (folder / "options.json").write_text(json.dumps(options))
    with (
        serve(folder, csp=csp) as address,
        messages(browser, address, seconds=seconds) as happened,
    ):
        for message in happened:
            if message.kind == "version":
                outcome.host = f"Pyodide {version} in {message.data}"
            elif message.kind == "test":
                outcome.add(message.data)
            elif message.kind == "done":
                outcome.status, outcome.printed = message.data["status"], message.data["printed"]
                break
            elif message.kind != "ready":
                outcome.complaints.append(f"{message.kind}: {message.data}")
                if message.kind == "error":
                    break
    return outcome


def run_in_browsers(folder: Path) -> dict[str, Outcome]:
    """The suite in Chromium and in Firefox: both at a time, on two cores in half the time.

    Args:
        folder: keeps the sites.

    Raises:
        FetchError: a browser is not installed, or something could not be fetched.
    """
    options = {"chromium": OPTIONS, "firefox": FIREFOX_OPTIONS}
    if missing := [name for name in options if not find(name)]:
        raise fetch.FetchError(f"not installed: {' and '.join(missing)}")
    sites = {name: lay_out(folder / name, some) for name, some in options.items()}
    with servers(folder) as asked, ThreadPoolExecutor() as pool:
        outcomes = pool.map(partial(_try_twice, asked=asked), sites, sites.values())
        return dict(zip(sites, outcomes, strict=True))


def _try_twice(browser: str, site: Path, asked: Mapping[str, str]) -> Outcome:
    """The suite in a browser; one that stands still, as Firefox does now and then, is opened anew, and that is told."""
    try:
        return run_in_browser(browser, site, asked=asked)
    except TimeoutError as error:
        outcome = run_in_browser(browser, site, asked=asked)
        outcome.host += f", at the second try ({error})"
        return outcome


def run_on_node(folder: Path, *, seconds: float = 280) -> Outcome:
    """Build the wheel with pyodide-build, make a ``pyodide venv`` with it, and run the suite there.

    Args:
        folder: keeps all of it; the second time most is there.
        seconds: for the suite itself.
    """
    made = environment()
    wheel = venv.build(made, folder / "dist")
    python = venv.make(made, wheel, folder / "venv")
    archive = pack(folder / "suite.zip")
    outcome = Outcome(f"Pyodide {made.version} on Node")
    for told in venv.run_suite(python, archive, folder / "suite", NODE_OPTIONS, seconds=seconds):
        if "status" in told:
            outcome.status, outcome.printed = told["status"], told["printed"]
        else:
            outcome.add(told)
    return outcome
