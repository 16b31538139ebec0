"""An ARM64 Python from Debian's packages, unpacked into a folder of the per-user cache.

apt uses folders of its own here. From the machine's settings it takes only the package sources and the trusted keys;
the machine's lists and packages stay as they are. apt checks signatures and digests.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.random_model.cache import cache_folder, kept
from tools.steps import Clock, StepFailed, run

__all__ = ["Debian", "debian", "needed"]

_ALSO = ("libstdc++6",)
"""Compiled wheels need it, Python does not."""

_SETTINGS = """\
APT::Architecture "arm64";
#clear APT::Architectures;
APT::Architectures {{ "arm64"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "2";
Debug::NoLocking "true";
Dir::Cache "{folder}/cache";
Dir::State "{folder}/state";
Dir::State::status "{folder}/state/status";
// These would change the machine's own lists and catalogues.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""

_OS_RELEASE = Path("/etc/os-release")


@dataclass(frozen=True, slots=True)
class Debian:
    """A folder with an ARM64 Python in it.

    Attributes:
        root: the folder, which is ``/`` for the emulated programs.
        python: the interpreter.
        version: its version, such as ``3.11``.
    """

    root: Path
    python: Path
    version: str


def debian(clock: Clock) -> Debian:
    """The folder from the cache. If it is missing it is made first: some 30 MB are downloaded, apt's lists included.

    Raises:
        StepFailed: apt is missing or failed, or the time is up.
    """
    for tool in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise StepFailed(f"{tool} is missing: this needs Debian, or a system derived from it")
    # A newer package of the same release is no reason to download everything again.
    made_of = Path(__file__).read_bytes() + _OS_RELEASE.read_bytes()
    key = hashlib.sha256(made_of).hexdigest()[:16]
    root = kept(cache_folder("arm64") / f"root-{key}", lambda folder: _make(folder, clock))
    found = sorted((root / "usr/bin").glob("python3.*[0-9]"))
    if len(found) != 1:
        shutil.rmtree(root, ignore_errors=True)
        raise StepFailed(f"the unpacked packages contain no Python: run this again ({root})")
    return Debian(root, found[0], found[0].name.removeprefix("python"))


def _make(folder: Path, clock: Clock) -> None:
    work = folder.with_name("apt")
    for name in ("cache/archives/partial", "state/lists/partial", "packages"):
        (work / name).mkdir(parents=True)
    (work / "state" / "status").touch()
    settings = work / "apt.conf"
    settings.write_text(_SETTINGS.format(folder=work))

    def apt(step: str, *words: str) -> str:
        command = [words[0], "--config-file", str(settings), *words[1:]]
        return run(step, command, clock, folder=work / "packages")

    apt("Debian's lists for ARM64", "apt-get", "--quiet", "update")
    packages = needed(
        apt("which Python Debian has", "apt-cache", "depends", "python3-minimal"),
        lambda wanted: apt(
            "what Python needs", "apt-get", "--quiet=2", "install", "--print-uris", *wanted
        ),
    )
    apt("Debian's packages for ARM64", "apt-get", "--quiet", "download", *packages)
    for package in sorted((work / "packages").glob("*.deb")):
        run("unpacking", ["dpkg-deb", "--extract", package, folder], clock)
    for name in ("lib", "bin"):  # in releases that keep everything in /usr
        if not (folder / name).exists():
            (folder / name).symlink_to(f"usr/{name}")


def needed(python: str, closure: Callable[[list[str]], str]) -> list[str]:
    """The packages to unpack, from the output of apt."""
    found = re.search(r"Depends: (python3\.\d+)-minimal", python)
    if found is None:
        raise StepFailed(
            "apt finds no package python3-minimal for ARM64: do its sources have that architecture?"
        )
    listed = closure([f"{found[1]}-minimal", f"lib{found[1]}-stdlib", *_ALSO])
    return re.findall(r"^'\S+' ([^_\s]+)_\S+\.deb ", listed, re.M)
