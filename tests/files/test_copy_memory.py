"""The block that is kept for copies of the KV cache is never given out twice."""

from __future__ import annotations

import threading

import pytest

from llama_bridge.files.copy_memory import copy_memory

MIB = 1 << 20


@pytest.mark.parametrize("size", [0, 1, 4096, 3 * MIB, 40 * MIB, 80 * MIB])
def test_it_is_as_large_as_asked_and_writable(size: int) -> None:
    memory = copy_memory(size)
    assert memory.nbytes == size
    memory[:] = bytes(size)


def test_two_copies_at_once_do_not_share() -> None:
    first, second = copy_memory(4 * MIB), copy_memory(4 * MIB)
    first[:1], second[:1] = b"1", b"2"
    assert bytes(first[:1]) == b"1"


@pytest.mark.parametrize("size", [4 * MIB, 80 * MIB])
def test_a_part_of_a_copy_keeps_it(size: int) -> None:
    part = copy_memory(size)[100:104]
    part[:] = b"kept"
    for _ in range(3):
        copy_memory(size)[:] = bytes(size)
    assert bytes(part) == b"kept"


def test_memory_is_used_again_when_nobody_has_it() -> None:
    copy_memory(5 * MIB)[:4] = b"mark"
    assert bytes(copy_memory(5 * MIB)[:4]) == b"mark"


def test_threads_never_share() -> None:
    wrong: list[int] = []

    def work(mark: int) -> None:
        for _ in range(200):
            memory = copy_memory(2 * MIB)
            memory[:1] = memory[-1:] = bytes([mark])
            if memory[0] != mark or memory[-1] != mark:
                wrong.append(mark)

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
