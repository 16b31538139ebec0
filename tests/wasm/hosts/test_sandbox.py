"""What the guest can reach: the one file it was given, and nothing else of this machine."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from llama_bridge.models.source import ModelFile
from llama_bridge_wasm.abi import MODEL_PATH, BadPointer
from llama_bridge_wasm.hosts.wasi import MAX_OPEN_FILES, GuestFile, World

from ..conftest import MakeGuest, last_error, load

ROOT, NOENT, BADF, NOTCAPABLE, MFILE, FAULT = 3, 44, 8, 76, 33, 21


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "etc/passwd",
        "/model.gguf/../etc/passwd",
        "/../model.gguf",
        "../../../../etc/passwd",
        "/model.gguf/",
        "//model.gguf.",
        "/MODEL.GGUF",
        "/model.gguf\u202e",
        "/proc/self/environ",
        "/dev/stdin",
        "/",
        ".",
        "",
    ],
)
def test_no_other_path_opens(make_guest: MakeGuest, path: str) -> None:
    guest = make_guest()
    assert load(guest, path) < 0
    assert "the model could not be loaded" in last_error(guest)
    assert load(guest, MODEL_PATH) == 0


def test_the_real_path_of_the_model_does_not_open_it(
    make_guest: MakeGuest, demo: ModelFile
) -> None:
    guest = make_guest()
    assert load(guest, os.fspath(demo.path.absolute())) < 0
    assert load(guest, f"{demo.path.absolute()}/../{demo.path.name}") < 0


def test_llama_wasm_imports_only_what_the_sandbox_answers(wasm: Path) -> None:
    from llama_bridge_wasm.hosts.wasmtime.module import compiled_module

    module = compiled_module(wasm).module
    world = World(
        {"x": GuestFile(io.BytesIO, 0, Path("x"))}, _Memory(bytearray()), lambda line: None
    )
    imports = {(i.module, i.name) for i in module.imports}
    imports -= {("env", "memory"), ("lb_host", "stop"), ("lb_host", "spawn")}
    assert {module for module, _ in imports} == {"wasi_snapshot_preview1"}
    assert {name for _, name in imports} <= {*world.imports(), "clock_time_get", "random_get"}
    assert not [name for _, name in imports if name and name.startswith(("sock_", "path_create"))]


class _Memory:
    """Guest memory that is a bytearray."""

    def __init__(self, data: bytearray) -> None:
        self.data = data

    def _view(self, pointer: int, size: int) -> memoryview:
        if pointer + size > len(self.data):
            raise BadPointer(pointer, size)
        return memoryview(self.data)[pointer : pointer + size]

    def read(self, pointer: int, size: int) -> bytearray:
        return bytearray(self._view(pointer, size))

    def write(self, pointer: int, data: bytes) -> None:
        self._view(pointer, len(data))[:] = data

    def fill(self, pointer: int, size: int, file: BinaryIO) -> int:
        return cast("io.FileIO", file).readinto(self._view(pointer, size)) or 0


class TestWorld:
    """The imports themselves, called as a hostile guest would call them."""

    @pytest.fixture
    def memory(self) -> bytearray:
        return bytearray(1 << 16)

    @pytest.fixture
    def world(self, memory: bytearray, tmp_path: Path) -> Iterator[World]:
        file = tmp_path / "real.gguf"
        file.write_bytes(b"GGUF-and-more")
        (tmp_path / "secret").write_bytes(b"secret")

        self.lines: list[bytes] = []
        world = World({"model.gguf": GuestFile.at(file)}, _Memory(memory), self.lines.append)
        yield world
        world.close()

    def open(self, world: World, memory: bytearray, path: bytes, **changes: int) -> int:
        memory[100 : 100 + len(path)] = path
        wanted = {"fd": ROOT, "creation": 0, "rights": 2, "flags": 0, **changes}
        result = world.imports()["path_open"](
            wanted["fd"],
            0,
            100,
            len(path),
            wanted["creation"],
            wanted["rights"],
            0,
            wanted["flags"],
            8,
        )
        assert result is not None
        return result

    def test_only_the_given_name_opens(self, world: World, memory: bytearray) -> None:
        assert self.open(world, memory, b"model.gguf") == 0
        for path in (b"secret", b"./model.gguf", b"real.gguf", b"../secret", b"model.gguf\0", b""):
            assert self.open(world, memory, path) == NOENT
        assert self.open(world, memory, b"model.gguf", fd=0) == BADF

    def test_another_file_opens_only_while_it_is_lent(
        self, world: World, memory: bytearray, tmp_path: Path
    ) -> None:
        (tmp_path / "adapter").write_bytes(b"adapter")
        assert self.open(world, memory, b"adapter.gguf") == NOENT
        world.lend("adapter.gguf", GuestFile.at(tmp_path / "adapter"))
        assert self.open(world, memory, b"secret") == NOENT
        assert self.open(world, memory, b"adapter.gguf") == 0
        (fd,) = struct.unpack_from("<I", memory, 8)
        memory[200:208] = struct.pack("<II", 300, 64)
        assert world.imports()["fd_read"](fd, 200, 1, 16) == 0
        assert memory[300:308] == b"adapter\0"
        assert world.imports()["fd_filestat_get"](fd, 400) == 0
        assert struct.unpack_from("<Q", memory, 432) == (len(b"adapter"),)
        assert self.open(world, memory, b"model.gguf") == 0
        world.take_back("adapter.gguf")
        assert world.imports()["fd_read"](fd, 200, 1, 16) == BADF
        assert self.open(world, memory, b"adapter.gguf") == NOENT
        (fd,) = struct.unpack_from("<I", memory, 8)
        assert world.imports()["fd_read"](fd, 200, 1, 16) == 0, "the model stays open"

    def test_nothing_opens_for_writing(self, world: World, memory: bytearray) -> None:
        for changes in ({"creation": 1}, {"creation": 8}, {"rights": 2 | 64}, {"flags": 1}):
            assert self.open(world, memory, b"model.gguf", **changes) == NOTCAPABLE

    def test_an_open_file_cannot_be_written(self, world: World, memory: bytearray) -> None:
        assert self.open(world, memory, b"model.gguf") == 0
        (fd,) = struct.unpack_from("<I", memory, 8)
        memory[200:208] = struct.pack("<II", 300, 4)
        assert world.imports()["fd_write"](fd, 200, 1, 16) == BADF

    def test_open_files_are_few(self, world: World, memory: bytearray) -> None:
        results = [self.open(world, memory, b"model.gguf") for _ in range(MAX_OPEN_FILES + 3)]
        assert results == [0] * MAX_OPEN_FILES + [MFILE] * 3
        world.close()
        assert self.open(world, memory, b"model.gguf") == 0

    def test_pointers_outside_memory_are_faults(self, world: World, memory: bytearray) -> None:
        imports = world.imports()
        assert self.open(world, memory, b"model.gguf") == 0
        (fd,) = struct.unpack_from("<I", memory, 8)
        memory[200:208] = struct.pack("<II", 65_530, 100)
        assert imports["fd_read"](fd, 200, 1, 16) == FAULT
        assert imports["fd_read"](fd, -16, 1, 16) == FAULT
        assert imports["fd_read"](fd, 200, 1 << 20, 16) == FAULT
        assert imports["fd_fdstat_get"](fd, -4) == FAULT
        assert world.failure is None

    def test_reading_and_seeking_stay_inside_the_file(
        self, world: World, memory: bytearray
    ) -> None:
        imports = world.imports()
        assert self.open(world, memory, b"model.gguf") == 0
        (fd,) = struct.unpack_from("<I", memory, 8)
        memory[200:216] = struct.pack("<IIII", 300, 4, 400, 1000)
        assert imports["fd_seek"](fd, -9, 0, 16) == 28
        assert imports["fd_seek"](fd, 5, 0, 16) == 0
        assert imports["fd_read"](fd, 200, 2, 16) == 0
        assert struct.unpack_from("<I", memory, 16) == (8,)
        assert memory[300:304] + memory[400:404] == b"and-more"
        assert imports["fd_close"](fd) == 0
        assert imports["fd_close"](fd) == BADF

    def test_there_is_no_environment(self, world: World, memory: bytearray) -> None:
        assert world.imports()["environ_sizes_get"](0, 4) == 0
        assert memory[:8] == bytes(8)

    def test_a_failure_of_the_host_is_kept_for_it(
        self, world: World, memory: bytearray, tmp_path: Path
    ) -> None:
        (tmp_path / "real.gguf").unlink()
        assert self.open(world, memory, b"model.gguf") == 29
        assert isinstance(world.failure, FileNotFoundError)
