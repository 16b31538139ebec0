"""``python -m tools.openai_client``: needs npm and Node 20 or newer. The exit status says whether all came as it should."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from llama_bridge import LlamaBridge, SamplingParams
from llama_bridge.serve import app
from tests.making import embedding_model
from tests.serve.serving import serving
from tools.browser.fetch import FetchError
from tools.random_model.cache import cache_folder, kept

_HERE = Path(__file__).parent
_FILES = ("package.json", "package-lock.json")
_SECONDS = 300


def client() -> Path:
    """A folder with the script and the client beside it, kept for the next time.

    Raises:
        FetchError: npm is missing or failed.
    """
    script = _HERE / "every_endpoint.mjs"
    contents = b"".join((_HERE / name).read_bytes() for name in _FILES) + script.read_bytes()

    def make(folder: Path) -> None:
        npm = shutil.which("npm")
        if npm is None:
            raise FetchError("npm is not installed; on Debian: apt-get install npm")
        folder.mkdir()
        for name in (*_FILES, script.name):
            shutil.copy(_HERE / name, folder)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise FetchError(f"npm failed: {done.stderr[-2000:]}")

    key = hashlib.sha256(contents).hexdigest()[:16]
    return kept(cache_folder("openai-client") / key, make)


def main() -> None:
    """Ask everything, on each backend that can be used here."""
    node = shutil.which("node")
    if node is None:
        sys.exit("Node is not installed; on Debian: apt-get install nodejs")
    try:
        folder = client()
    except FetchError as error:
        sys.exit(str(error))
    greedy = SamplingParams(temperature=0, max_tokens=None)
    with tempfile.TemporaryDirectory() as models:
        embedder, ranker = Path(models, "embedder.gguf"), Path(models, "ranker.gguf")
        embedding_model(embedder)
        embedding_model(ranker, pooling=4)
        with (
            LlamaBridge("demo", sampling=greedy) as chat,
            LlamaBridge(embedder) as reader,
            LlamaBridge(ranker) as ranking,
            serving(app(chat)) as first,
            serving(app(reader)) as second,
            serving(app(ranking)) as third,
        ):
            command = [node, str(folder / "every_endpoint.mjs"), first.url, second.url, third.url]
            done = subprocess.run(command, timeout=_SECONDS)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
