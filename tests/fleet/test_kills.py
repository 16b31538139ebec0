"""kill -9 while a replica writes to the store: nothing that is half written is ever read, and what it has left goes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llama_bridge import Capability, LlamaBridge, registry
from llama_bridge.files.format import state_bytes
from llama_bridge.serve import kept_record, shared_store
from llama_bridge.serve.shared_store import SharedFolder

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kill -9")

KILLS = int(os.environ.get("LLAMA_BRIDGE_KILLS", "2"))
TEXT = "one two three " * 150
_HALF = "*.part"
_WRITER = """
import os, sys
from pathlib import Path
from llama_bridge import LlamaBridge
from llama_bridge.serve import kept_record
from llama_bridge.serve.kept_responses import Kept
from llama_bridge.serve.shared_store import SharedFolder

store = SharedFolder(Path(sys.argv[1]))
with LlamaBridge("demo", backend=sys.argv[2], n_ctx=4096) as llama:
    llama.generate(sys.argv[3], chat=False, max_tokens=1)
    for n in range(1_000_000):
        if n == 2:
            print("ready", flush=True)
        id_ = "resp_" + os.urandom(20).hex()
        said = Kept(id_, "me", "demo", {}, [], [{"role": "user", "content": sys.argv[3] * 200}])
        store.write(f"{id_}.json", kept_record.to_bytes(said))
        file = store.place(f"{id_}.session", Path(sys.argv[1]))
        llama.session_save(file)
        store.placed(f"{id_}.session", file)
"""


def killed(folder: Path, backend: str, chance: random.Random) -> None:
    """A replica writes, until it is killed in the middle of a file: it is stopped now and then, and looked at."""
    command = [sys.executable, "-c", _WRITER, str(folder), backend, TEXT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        before = halves(folder)
        for _ in range(500):
            time.sleep(0.02 * chance.random())
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.005)
            if halves(folder) - before:
                break
            process.send_signal(signal.SIGCONT)
        else:
            pytest.fail("it never writes")
        process.send_signal(signal.SIGKILL)


def halves(folder: Path) -> set[Path]:
    return set(folder.rglob(_HALF))


def test_what_a_killed_replica_has_half_written_is_never_read(
    tmp_path: Path, llama_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if Capability.SESSION_PERSISTENCE not in registry.candidates(llama_backend)[0].capabilities:
        pytest.skip("there are no session files on this backend")
    folder, chance = tmp_path / "store", random.Random(12)
    for _ in range(KILLS):
        killed(folder, llama_backend, chance)
    assert halves(folder), "no file was half written"
    store = SharedFolder(folder)
    there = [one.name for one in store.contents()]
    assert len(there) > 2
    with LlamaBridge("demo", backend=llama_backend, n_ctx=4096) as llama:
        copy = tmp_path / "copy.session"
        for name in there:
            assert store.fetch(name, copy)
            if name.endswith(".json"):
                id_ = name.removesuffix(".json")
                assert kept_record.from_bytes(copy.read_bytes(), id_) is not None
            else:
                assert state_bytes(str(copy)) is not None
        last = max(name for name in there if name.endswith(".session"))
        assert store.fetch(last, copy)
        llama.session_load(copy)
        answer = llama.generate_continue(" four", chat=False, max_tokens=1)
        assert answer.usage.cached_tokens > 300
    # Another replica writes on, and after an hour nothing half written is left.
    monkeypatch.setattr(shared_store, "_LEFT", -60.0)
    list(store.contents())
    assert list(folder.rglob(_HALF)) == []
    assert sorted(one.name for one in store.contents()) == sorted(there)
