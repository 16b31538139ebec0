"""The official JSON-Schema-Test-Suite, from the source distribution of ``jsonschema``."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.random_model.cache import cache_folder, kept

__all__ = ["Group", "groups"]

VERSION = "4.26.0"
SHA256 = "0c26707e2efad8aa1bfc5b7ce170f3fccc2e4918ff85989ba9ffa9facb2be326"
ASIDE = ("unevaluated", "$dynamicRef", "$recursiveRef", "http://localhost:1234")
"""Keywords that are not supported, and schemas on another server."""
METASCHEMA = '"$ref": "http'


@dataclass(frozen=True)
class Group:
    """One schema of the suite, with values and whether each is valid."""

    file: str
    description: str
    schema: Any
    tests: tuple[tuple[Any, bool], ...]

    @property
    def aside(self) -> bool:
        """Whether it is about what this library says it does not do."""
        text = json.dumps(self.schema)
        return any(word in text for word in ASIDE) or (
            METASCHEMA in text and "json-schema.org" in text
        )


def groups(draft: str, part: str = "") -> Iterator[Group]:
    """The groups of a draft: of its main part, or of ``optional``, or of ``optional/format``."""
    folder = kept(cache_folder("") / f"json-schema-test-suite-{VERSION}", _unpack)
    for path in sorted((folder / draft / part).glob("*.json")):
        for one in json.loads(path.read_text(encoding="utf-8")):
            tests = tuple((test["data"], test["valid"]) for test in one["tests"])
            yield Group(path.name, one["description"], one["schema"], tests)


def _unpack(folder: Path) -> None:
    work = folder.parent
    requirements = work / "requirements.txt"
    requirements.write_text(f"jsonschema=={VERSION} --hash=sha256:{SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "jsonschema"]
    command += ["--require-hashes", "-r", str(requirements), "-d", str(work)]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "-q"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    archive = work / f"jsonschema-{VERSION}.tar.gz"
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == SHA256
    folder.mkdir()
    inside = f"jsonschema-{VERSION}/json/tests/"
    with tarfile.open(archive) as files:
        for member in files:
            name = member.name.removeprefix(inside)
            if name != member.name and member.isfile():
                member.name = name
                files.extract(member, folder, filter="data")
