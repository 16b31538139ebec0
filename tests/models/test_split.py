"""Split models on the disk: any part loads all, and what does not belong together is named before anything is loaded."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import pytest

from llama_bridge import (
    InvalidInput,
    InvalidModel,
    ModelError,
    ModelNotFound,
    ModelParams,
    ModelSource,
    PartsSource,
    SplitSource,
)
from llama_bridge.models.adapter import open_adapter
from llama_bridge.models.memory_need import memory_need
from llama_bridge.models.part_name import PartName, read_part_name
from llama_bridge.models.preflight import check_model
from llama_bridge.models.source import open_model
from llama_bridge.testing.adapters import write_adapter
from tests.gguf_editing import Gguf, edited_model
from tools.split_model import split_model

DEMO = open_model("demo")


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """The demo model in three files."""
    return split_model(DEMO.path, tmp_path / "chat-Q8_0", 3)


@pytest.mark.parametrize(
    ("text", "base", "number", "count"),
    [
        ("m-00002-of-00003.gguf", "m", 2, 3),
        ("dir/a-00001-of-00002-00001-of-00012.GGUF", "dir/a-00001-of-00002", 1, 12),
        ("-00001-of-00002.gguf", "", 1, 2),
        ("two\nlines-00001-of-00002.gguf", "two\nlines", 1, 2),
    ],
)
def test_the_name_of_a_part_is_read_and_written(
    text: str, base: str, number: int, count: int
) -> None:
    name = read_part_name(text)
    assert name is not None
    assert (name.base, name.number, name.count) == (base, number, count)
    assert str(name) == text


@pytest.mark.parametrize(
    "text",
    [
        "m.gguf",
        "m-00001-of-00001.gguf",
        "m-00000-of-00003.gguf",
        "m-00004-of-00003.gguf",
        "m-1-of-3.gguf",
        "m-00001-of-00003.gguf.incomplete",
        "m-0000\N{ARABIC-INDIC DIGIT ONE}-of-00003.gguf",
    ],
)
def test_other_names_are_of_whole_models(text: str) -> None:
    assert read_part_name(text) is None


def test_names_of_one_model_belong_together() -> None:
    name = PartName("m", 2, 3)
    assert name.all() == [f"m-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    assert name.is_of(PartName("M", 1, 3))
    assert not name.is_of(PartName("m", 2, 4))


@pytest.mark.parametrize("which", [0, 1, 2, "chat-Q8_0", "chat-Q8_0.gguf"])
def test_any_part_or_the_base_name_is_the_whole_model(parts: list[Path], which: int | str) -> None:
    path = parts[which] if isinstance(which, int) else parts[0].with_name(which)
    model = open_model(path)
    assert model.path == parts[0]
    assert [part.path for part in model.files] == parts
    assert model.n_parameters == DEMO.n_parameters
    assert model.quantisation == DEMO.quantisation
    assert model.header.file_size == sum(path.stat().st_size for path in parts)
    assert [t.name for t in model.header.tensors] == [t.name for t in DEMO.header.tensors]
    assert {**model.metadata, **DEMO.metadata} == model.metadata
    check_model(model, ModelParams())


def test_a_model_without_a_name_has_that_of_its_files_without_the_number(
    tmp_path: Path,
) -> None:
    nameless = edited_model(tmp_path / "x.gguf", {"general.name": ""})
    parts = split_model(nameless, tmp_path / "chat.v2", 2)
    assert open_model(parts[1]).name == "chat.v2"


def test_the_first_part_may_have_no_tensors(tmp_path: Path) -> None:
    parts = split_model(DEMO.path, tmp_path / "m", 3, empty_first=True)
    assert open_model(parts[0]).n_parameters == DEMO.n_parameters


def test_a_file_of_that_name_comes_before_parts(parts: list[Path]) -> None:
    whole = parts[0].with_name("chat-Q8_0.gguf")
    shutil.copy(DEMO.path, whole)
    assert open_model(whole).files == (open_model(whole),)


def test_a_model_in_one_file_may_be_called_part_one(tmp_path: Path) -> None:
    for name in ("m-00001-of-00001.gguf", "m-00001-of-00003.gguf"):
        shutil.copy(DEMO.path, tmp_path / name)
        assert open_model(tmp_path / name).n_parameters == DEMO.n_parameters


def test_a_relative_path_and_links_lead_to_all_parts(
    parts: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(parts[0].parent)
    assert open_model(parts[1].name).n_parameters == DEMO.n_parameters
    if sys.platform == "emscripten":
        return
    Path("elsewhere").mkdir()
    link = Path("elsewhere", "model.gguf")
    link.symlink_to(parts[2].absolute())
    assert [path.path for path in open_model(link).files] == parts


@pytest.mark.skipif(sys.platform in ("emscripten", "win32"), reason="links")
def test_a_link_to_a_part_in_the_hubs_cache_leads_to_all_parts(
    parts: list[Path], tmp_path: Path
) -> None:
    """There the part itself is a link, to a file that is called by its digest."""
    (tmp_path / "blobs").mkdir()
    for number, part in enumerate(parts):
        part.rename(blob := tmp_path / "blobs" / f"{number:064}")
        part.symlink_to(os.path.relpath(blob, part.parent))
    link, other = tmp_path / "model.gguf", tmp_path / "loop.gguf"
    link.symlink_to(parts[1])
    assert [file.path for file in open_model(link).files] == parts
    other.symlink_to(other)
    with pytest.raises(ModelError):
        open_model(other)


def test_names_in_another_case_are_found(parts: list[Path]) -> None:
    parts[0].rename(other := parts[0].with_name("CHAT-q8_0-00001-OF-00003.GGUF"))
    for path in (other, parts[0], parts[2]):
        assert open_model(path).path.samefile(other)
        assert len(open_model(path).files) == 3


@pytest.mark.parametrize("gone", [0, 1, 2])
@pytest.mark.parametrize("given", [0, 1, 2, "chat-Q8_0"])
def test_a_part_that_is_missing_is_named(parts: list[Path], gone: int, given: int | str) -> None:
    parts[gone].unlink()
    path = parts[given] if isinstance(given, int) else parts[0].with_name(given)
    with pytest.raises(ModelNotFound, match=rf"part {gone + 1} of 3 is missing") as error:
        open_model(path)
    assert parts[gone].name in error.value.reason
    assert error.value.path == os.fspath(path)
    assert set(error.value.there) <= {path.name for path in parts} - {parts[gone].name}


def test_two_models_of_one_base_name_are_not_guessed(parts: list[Path]) -> None:
    split_model(DEMO.path, parts[0].with_name("chat-Q8_0"), 2)
    with pytest.raises(InvalidModel, match="in 2, 3 files: give the path of one part"):
        open_model(parts[0].with_name("chat-Q8_0"))
    assert len(open_model(parts[0]).files) == 3


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _pipe(path: Path) -> None:
    if sys.platform in ("emscripten", "win32"):
        pytest.skip("no pipes")
    path.unlink()
    os.mkfifo(path)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def _whole(path: Path) -> None:
    shutil.copy(DEMO.path, path)


def _set(key: str, value: int, kind: int | None = None) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        file = Gguf(path)
        file.set(key, value, kind)
        file.write(path)

    return change


def _without(key: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        file = Gguf(path)
        del file.metadata[key]
        file.write(path)

    return change


def _fewer(path: Path) -> None:
    file = Gguf(path)
    file.tensors.popitem()
    file.write(path)


def _one_twice(path: Path) -> None:
    """The part has a tensor of the first."""
    file, first = Gguf(path), Gguf(path.with_name(path.name.replace("-00002-", "-00001-")))
    file.tensors.popitem()
    file.tensors |= dict([next(iter(first.tensors.items()))])
    file.write(path)


@pytest.mark.parametrize("given", [0, 1])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_cut, "truncated GGUF"),
        (_pipe, "not a regular file"),
        (_directory, "a directory"),
        (_loop, "cannot be read"),
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.write_bytes(b"<!DOCTYPE html><html>"), "a web page"),
        (_whole, "a whole model"),
        (_set("split.count", 4), "part 2 of 4"),
        (_set("split.no", 2), "part 3 of 3"),
        (_set("split.no", 0), r"(part 1 of 3|no general.architecture)"),
        (_set("split.no", 1, 4), "its split.no is not an unsigned number of 16 bits"),
        (_set("split.no", 1, 7), "its split.no is not an unsigned number of 16 bits"),
        (_set("split.count", 3, 10), "its split.count is not"),
        (
            _set("split.tensors.count", len(DEMO.header.tensors), 4),
            "its split.tensors.count is not",
        ),
        (_set("split.tensors.count", 5), r"its model has \d+ tensors, not"),
        (_without("split.tensors.count"), "tensors"),
        (_without("split.no"), "(part 0 of 3|no general.architecture)"),
        (_fewer, "tensors, but it should have"),
        (_one_twice, "it has the tensor .*, as has chat-Q8_0-00001-of-00003.gguf"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_part_that_cannot_be_used_is_named(
    parts: list[Path], change: Callable[[Path], None], reason: str, given: int
) -> None:
    change(parts[1])
    with pytest.raises(InvalidModel, match=reason) as error:
        open_model(parts[given])
    if change is not _fewer:  # nobody knows which one
        assert parts[1].name in str(error.value)


def test_parts_that_changed_places_are_named(parts: list[Path]) -> None:
    third = parts[2].read_bytes()
    parts[1].replace(parts[2])
    parts[1].write_bytes(third)
    with pytest.raises(InvalidModel, match=r"-00002-of-00003.gguf is not part 2 .* part 3 of 3"):
        open_model(parts[0])


def test_the_same_part_twice_is_named(parts: list[Path]) -> None:
    shutil.copy(parts[1], parts[2])
    with pytest.raises(InvalidModel, match=r"-00003-of-00003.gguf is not part 3 .* part 2 of 3"):
        open_model(parts[0])


def test_a_part_under_another_name_says_what_it_is(parts: list[Path]) -> None:
    parts[1].rename(other := parts[1].with_name("model.gguf"))
    with pytest.raises(InvalidModel, match=r"part 2 of 3 .* but is not called so") as error:
        open_model(other)
    assert error.value.found == "split"


def test_a_part_of_absurdly_many_is_refused_at_once(parts: list[Path]) -> None:
    _set("split.count", 65_535)(parts[0])
    parts[0].rename(path := parts[0].with_name("m-00001-of-65535.gguf"))
    with pytest.raises(ModelNotFound, match="part 2 of 65535 is missing"):
        open_model(path)


@pytest.mark.parametrize("which", [0, 1])
def test_the_alignment_of_each_part_is_checked(parts: list[Path], which: int) -> None:
    file = Gguf(parts[which])
    file.set("general.alignment", 8)
    file.write(parts[which])
    with pytest.raises(InvalidModel, match="alignment is 8") as error:
        check_model(open_model(parts[0]), ModelParams())
    assert error.value.path == os.fspath(parts[which])


def test_no_name_and_no_folder_breaks_the_search(tmp_path: Path) -> None:
    for path in (tmp_path / "no" / "folder", tmp_path / "m-00001-of-00002.gguf"):
        with pytest.raises(ModelNotFound, match="no such file"):
            open_model(path)
    with pytest.raises(ModelError):
        open_model(tmp_path / ("x" * 300))


def test_an_adapter_in_parts_is_refused(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter.gguf", DEMO)
    parts = split_model(adapter, tmp_path / "a", 2)
    with pytest.raises(InvalidModel, match="an adapter in 2 files"):
        open_adapter(parts[0])


def test_the_fingerprint_is_of_all_parts(parts: list[Path], tmp_path: Path) -> None:
    mine = open_model(parts[0]).fingerprint
    assert open_model(parts[2]).fingerprint == mine
    for which, part in enumerate(parts):
        other = tmp_path / str(which)
        other.mkdir()
        for path in parts:
            shutil.copy(path, other)
        data = bytearray(part.read_bytes())
        data[-64:] = bytes(64)  # the last tensor's end
        (other / part.name).write_bytes(data)
        changed = open_model(other / parts[0].name).fingerprint
        assert {key for key in mine if changed[key] != mine[key]} == {"weights"}


def test_the_fingerprint_of_a_model_in_one_file_is_as_it_was() -> None:
    data, header = DEMO.path.read_bytes(), DEMO.header
    vocabulary = b"".join(data[start:end] for start, end in header.vocabulary_spans)
    weights = hashlib.sha256()
    for tensor in header.tensors:
        start = header.data_offset + tensor.offset
        size = tensor.n_bytes or 0
        for at in (0, (size - 512) // 2, size - 512):
            weights.update(data[start + max(0, at) : start + max(0, at) + 512])
    assert DEMO.fingerprint == {
        "architecture": "llama",
        "vocabulary": hashlib.sha256(vocabulary).hexdigest(),
        "chat_template": hashlib.sha256((DEMO.chat_template or "").encode()).hexdigest(),
        "tensors": hashlib.sha256(data[slice(*header.tensors_span)]).hexdigest(),
        "weights": weights.hexdigest(),
        "metadata": hashlib.sha256(data[slice(*header.metadata_span)]).hexdigest(),
    }


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_part_that_changed_since_it_was_opened_is_noticed(parts: list[Path], which: int) -> None:
    model = open_model(parts[0])
    before = model.is_unchanged
    os.utime(parts[which], (1, 1))
    assert (before, model.is_unchanged) == (True, False)
    with pytest.raises(InvalidModel, match="changed on the disk"):
        _ = model.fingerprint


def test_the_memory_it_needs_is_that_of_all_parts(parts: list[Path]) -> None:
    assert memory_need(open_model(parts[1]).header, 512) == memory_need(DEMO.header, 512)


# sources


class Bytes:
    """A file in memory; without a way to others."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self._data = data

    def open(self) -> BinaryIO:
        return io.BytesIO(self._data)


class Numbered(Bytes):
    """One of several files that know each other, whatever they are called."""

    others: Sequence[Bytes] = ()

    def beside(self, number: int) -> ModelSource:
        if number > len(self.others):
            raise FileNotFoundError(number)
        return self.others[number - 1]


def sources(parts: Sequence[Path]) -> list[Bytes]:
    return [Bytes(path.name, path.read_bytes()) for path in parts]


def test_parts_that_are_not_on_the_disk_load_in_any_order(parts: list[Path]) -> None:
    one, two, three = sources(parts)
    model = open_model(PartsSource([three, one, two]))
    assert isinstance(PartsSource([two]), SplitSource)
    assert [part.path.name for part in model.files] == [path.name for path in parts]
    assert model.fingerprint == open_model(parts[0]).fingerprint
    assert model.is_unchanged


def test_sources_that_know_each_other_need_no_names(parts: list[Path]) -> None:
    files = [Numbered("model", path.read_bytes()) for path in parts]
    for file in files:
        file.others = files
    for file in files:
        assert open_model(file).n_parameters == DEMO.n_parameters
    files[1].others = files[2].others = [files[0], files[2], files[1]]
    with pytest.raises(InvalidModel, match=r"model-00002-of-00003\.gguf is not part 2"):
        open_model(files[2])


def test_what_is_not_given_as_all_parts_of_one_model_is_named(parts: list[Path]) -> None:
    one, two, three = sources(parts)
    with pytest.raises(InvalidInput, match="is given twice"):
        PartsSource([one, two, three, Bytes(one.name, b"")])
    with pytest.raises(InvalidInput, match=r"'x\.gguf' is not the name of a part"):
        PartsSource([one, Bytes("x.gguf", b"")])
    with pytest.raises(InvalidInput, match="parts of different models"):
        PartsSource([one, Bytes("m-00002-of-00003.gguf", b"")])
    with pytest.raises(InvalidInput, match="no parts"):
        PartsSource([])
    with pytest.raises(ModelNotFound, match="part 2 of 3 is missing"):
        open_model(PartsSource([three, one]))
    with pytest.raises(InvalidModel, match="give all parts"):
        open_model(two)
    with pytest.raises(InvalidModel, match=r"part 2 of 3 cannot be used: .*truncated"):
        open_model(PartsSource([one, Bytes(two.name, b"GGUF"), three]))


@pytest.mark.parametrize(("number", "count"), [(70, 3), (-5, 3), (0, 0), (2, 1 << 31)])
def test_absurd_numbers_in_a_source_are_refused(parts: list[Path], number: int, count: int) -> None:
    file = Gguf(parts[0])
    file.set("split.no", number, 5)
    file.set("split.count", count, 10)
    file.write(parts[0])
    source = Numbered("model", parts[0].read_bytes())
    if count == 0:
        assert not open_model(source).parts  # llama.cpp takes it for a whole one, too
        return
    with pytest.raises(ModelError):
        open_model(source)
