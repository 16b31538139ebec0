"""Folders of sessions with strange things in them: typed errors, foreign files untouched, nothing lost in memory."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from llama_bridge import BridgeError, LlamaBridge
from llama_bridge.testing import FakeBackend, echo

__all__ = ["strange_folders"]

_NAMES = ("a", "b", "c")


def strange_folders(seed: int) -> Iterator[str | None]:
    """The attack, without end."""
    chance = random.Random(seed)
    number = 0
    while True:
        number += 1
        with tempfile.TemporaryDirectory() as above:
            yield _round(Path(above), random.Random(chance.randrange(2**32)), number)


def _round(above: Path, chance: random.Random, number: int) -> str | None:
    folder = above / "sessions"
    folder.mkdir()
    (above / "victim").write_text("precious")
    done: list[str] = []
    try:
        foreign = _foreign(above, folder, chance)
        with _open(folder, chance) as llama:
            for _ in range(12):
                act = chance.choice(_ACTS)
                done.append(act.__name__.strip("_"))
                act(above, folder, llama, chance)
            live = llama.session("live")
            live.generate("what I said last")
            if "what I said last" not in str(live.messages):
                return f"{number} ({', '.join(done)}): the live conversation is lost"
    except BridgeError:
        pass
    except Exception as error:
        return f"{number} ({', '.join(done)}): {type(error).__name__}: {error}"
    else:
        for path, content in foreign.items():
            gone = not path.is_file() or path.read_bytes() != content
            if gone and folder.exists() and "remove_folder" not in done:
                return f"{number} ({', '.join(done)}): {path.name} was touched"
    if (above / "victim").read_text() != "precious":
        return f"{number} ({', '.join(done)}): what a link points at was written to"
    return None


def _open(folder: Path, chance: random.Random) -> LlamaBridge:
    return LlamaBridge(
        "demo",
        backend=FakeBackend(echo),
        sessions_dir=folder,
        sessions_disk=chance.choice([0, 1, 5000, 1 << 30]),
        session_memory=chance.choice([0, 1000, 1 << 30]),
    )


def _foreign(above: Path, folder: Path, chance: random.Random) -> dict[Path, bytes]:
    """Somebody else's files, which stay as they are."""
    files: dict[Path, bytes] = {}
    for name in chance.sample(
        [".important.tmp", "notes.session", "a.txt", ".x.session.tmp", "%7a.session", "A.session"],
        3,
    ):
        files[folder / name] = os.urandom(chance.choice([0, 10, 5000]))
        (folder / name).write_bytes(files[folder / name])
        os.utime(folder / name, (1, 1))
    return files


# what happens while the bridge is there


def _talk(above: Path, folder: Path, llama: LlamaBridge, chance: random.Random) -> None:
    _lenient(lambda: llama.session(chance.choice(_NAMES)).generate_continue("hello"))


def _flush(above: Path, folder: Path, llama: LlamaBridge, chance: random.Random) -> None:
    _lenient(llama.sessions_flush)


def _look(above: Path, folder: Path, llama: LlamaBridge, chance: random.Random) -> None:
    _lenient(lambda: [llama.session(name).messages for name in llama.sessions()])


def _delete(above: Path, folder: Path, llama: LlamaBridge, chance: random.Random) -> None:
    _lenient(llama.session(chance.choice(_NAMES)).delete)


def _link(above: Path, folder: Path, llama: LlamaBridge, chance: random.Random) -> None:
    _put(folder, chance, lambda path: path.symlink_to(above / chance.choice(["victim", "nothing"])))


def _fifo(above: Path, folder: Path, llama: LlamaBridge, chance: random.Random) -> None:
    _put(folder, chance, os.mkfifo)


def _directory(above: Path, folder: Path, llama: LlamaBridge, chance: random.Random) -> None:
    _put(folder, chance, Path.mkdir)


def _rubbish(above: Path, folder: Path, llama: LlamaBridge, chance: random.Random) -> None:
    _put(folder, chance, lambda path: path.write_bytes(os.urandom(chance.choice([0, 7, 4000]))))


def _cut(above: Path, folder: Path, llama: LlamaBridge, chance: random.Random) -> None:
    path = folder / f"{chance.choice(_NAMES)}.session"
    if path.is_file() and not path.is_symlink():
        data = path.read_bytes()
        path.write_bytes(data[: chance.randrange(len(data) + 1)])


def _remove_lock(above: Path, folder: Path, llama: LlamaBridge, chance: random.Random) -> None:
    (folder / ".lock").unlink(missing_ok=True)


def _remove_folder(above: Path, folder: Path, llama: LlamaBridge, chance: random.Random) -> None:
    if chance.random() < 0.3:
        shutil.rmtree(folder, ignore_errors=True)


def _put(folder: Path, chance: random.Random, make: Callable[[Path], object]) -> None:
    """Something else in place of a session's file."""
    path = folder / f"{chance.choice(_NAMES)}.session"
    if folder.exists() and not path.is_dir():
        with contextlib.suppress(
            OSError
        ):  # the bridge may write there just now, or have its folder removed
            path.unlink(missing_ok=True)
            make(path)


def _lenient(call: Callable[[], object]) -> None:
    """A refusal is an answer, too."""
    with contextlib.suppress(BridgeError):
        call()


_ACTS: list[Callable[[Path, Path, LlamaBridge, random.Random], None]] = [
    _talk,
    _talk,
    _talk,
    _flush,
    _look,
    _delete,
    _link,
    _fifo,
    _directory,
    _rubbish,
    _cut,
    _remove_lock,
    _remove_folder,
]
