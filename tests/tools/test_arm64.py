"""What tells whether ARM64 computes the same bits: it sees one bit, and only what matters."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import pytest

from tools.arm64.compare import compare
from tools.arm64.loops import Loop, count_instructions, inner_loops
from tools.arm64.probe import main as probe


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        write(folder / "logits.f32", 1.0, -2.5, math.inf)
        (folder / "said.txt").write_text("Hello!")
    return here, there


def write(path: Path, *numbers: float) -> None:
    path.write_bytes(struct.pack(f"<{len(numbers)}f", *numbers))


def test_equal_folders_are_equal(folders: tuple[Path, Path]) -> None:
    found = compare(*folders)
    assert found.different == {}
    assert str(found) == "2 results, the same to the last bit"


def test_the_last_bit_of_one_number_is_seen(folders: tuple[Path, Path]) -> None:
    here, there = folders
    write(there / "logits.f32", 1.0, -2.5000002, math.inf)
    found = compare(here, there)
    assert found.different == {
        "logits.f32": "1 of 3 numbers, the first -2.5 and -2.500000238418579"
    }
    assert "logits.f32" in str(found)


def test_which_nan_it_is_does_not_matter_and_that_it_is_one_does(
    folders: tuple[Path, Path],
) -> None:
    here, there = folders
    for folder, bits in ((here, 0xFFC00000), (there, 0x7FC00000)):
        (folder / "nan.f32").write_bytes(struct.pack("<I", bits))
    assert compare(here, there).different == {}
    write(there / "nan.f32", 0.0)
    assert compare(here, there).different == {"nan.f32": "1 of 1 numbers, the first nan and 0.0"}


def test_zero_and_minus_zero_differ(folders: tuple[Path, Path]) -> None:
    here, there = folders
    write(here / "zero.f32", 0.0)
    write(there / "zero.f32", -0.0)
    assert set(compare(here, there).different) == {"zero.f32"}


def test_a_missing_or_shorter_result_is_a_difference(folders: tuple[Path, Path]) -> None:
    here, there = folders
    (here / "said.txt").unlink()
    write(there / "logits.f32", 1.0, -2.5)
    found = compare(here, there)
    assert found.different == {
        "logits.f32": "3 numbers against 2",
        "said.txt": f"not in {here}",
    }


def test_another_text_is_a_difference(folders: tuple[Path, Path]) -> None:
    (folders[1] / "said.txt").write_text("Help!")
    assert compare(*folders).different == {"said.txt": "differs from byte 3 on"}


def test_nothing_is_no_proof(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match="no results"):
        compare(tmp_path / "a", tmp_path / "b")


@pytest.mark.slow
def test_the_same_machine_gives_the_same_results_twice(tmp_path: Path) -> None:
    for name in "ab":
        probe([str(tmp_path / name)])
    found = compare(tmp_path / "a", tmp_path / "b")
    assert found.different == {}
    assert len(found.compared) > 100
    logits = (tmp_path / "a" / "demo-after-40-and-0.f32").read_bytes()
    values = struct.unpack(f"<{len(logits) // 4}f", logits)
    assert all(map(math.isfinite, values))
    assert len(set(values)) > len(values) / 2


def module(folder: Path, *words: int, name: bytes = b".text") -> Path:
    """An ELF file of 64 bits with this code."""
    code, names = struct.pack(f"<{len(words)}I", *words), b"\0" + name + b"\0"
    head = struct.pack("<6s34xQ10xHHH", b"\x7fELF\x02\x01", 64, 64, 2, 1)
    start = 64 + 128
    text = struct.pack("<II4Q24x", 1, 1, 0, 0, start, len(code))
    strings = struct.pack("<II4Q24x", 0, 3, 0, 0, start + len(code), len(names))
    path = folder / "module.cwasm"
    path.write_bytes(head.ljust(64, b"\0") + text + strings + code + names)
    return path


NOP, SDOT, SMULL, SMULL2, WIDER = 0xD503201F, 0x4E829420, 0x0E22C020, 0x4E22C020, 0x0E62C020


def back(instructions: int) -> int:
    """A branch that is taken where two are not equal: b.ne."""
    return 0x54000001 | (-instructions & 0x7FFFF) << 5


def test_the_inner_loops_that_multiply_bytes_are_counted(tmp_path: Path) -> None:
    code = [
        NOP,
        SDOT,
        SDOT,
        NOP,
        back(3),
        SMULL,
        SMULL2,
        back(2),
        WIDER,
        NOP,
        back(2),
        NOP,
        back(12),
    ]
    assert inner_loops(module(tmp_path, *code)) == [Loop(3, 0, 2), Loop(4, 2, 0)]


def test_the_loops_of_prefill_and_decode_in_a_cache_are_counted(tmp_path: Path) -> None:
    fours, pairs = [SDOT] * 8, [SMULL, SMULL2] * 8
    prefill = [*fours, NOP, back(9), *pairs, back(16)]
    decode = [*fours, *fours, NOP, NOP, NOP, back(19), *pairs, *pairs, back(32)]
    module(tmp_path, *prefill, *decode)
    assert [str(count) for count in count_instructions(tmp_path)] == [
        "prefill: 10 instructions for 128 multiply-adds in fours (at most 26), 17 in pairs",
        "decode: 10 instructions for 128 multiply-adds in fours (at most 26), 16.5 in pairs",
    ]
    assert not any(count.too_many for count in count_instructions(tmp_path))
    shorter = [*fours, back(8)]
    module(tmp_path, *shorter, *prefill, *prefill, *decode)
    assert count_instructions(tmp_path)[0].fours == 10, "what two formats share, not the shortest"
    module(tmp_path, *fours, *[NOP] * 18, back(26), *pairs, back(16), *decode)
    assert [count.too_many for count in count_instructions(tmp_path)] == [True, False]
    module(tmp_path, *prefill, *fours, *fours, *[NOP] * 40, back(56), *pairs, *pairs, back(32))
    assert [count.too_many for count in count_instructions(tmp_path)] == [False, True]


def test_what_has_no_such_loops_is_refused(tmp_path: Path) -> None:
    module(tmp_path, *[SDOT] * 8, back(8), *[SMULL, SMULL2] * 8, back(16))
    with pytest.raises(ValueError, match="in both forms"):
        count_instructions(tmp_path)
    with pytest.raises(ValueError, match="no code"):
        inner_loops(module(tmp_path, NOP, name=b".data"))
    (tmp_path / "no.cwasm").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="no ELF file"):
        inner_loops(tmp_path / "no.cwasm")
