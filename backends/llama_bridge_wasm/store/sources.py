"""Model files of a page: dropped on it, kept by it, or on its server. For workers, because all reads are synchronous.

Pass one to ``LlamaBridge(source)``. llama.cpp reads the bytes as it goes through the file, straight into its own
memory: there is no second copy of the model, not even in Pyodide's file system.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import io
import re
from abc import abstractmethod
from typing import Any, BinaryIO, cast

from llama_bridge.models.part_name import read_part_name

from ..page import FillsMemory, JsException, js, new

__all__ = ["BlobSource", "HandleSource", "UrlSource", "part_urls", "why_unreadable"]

_BLOCK = 4 << 20
"""Bytes read at once: never more than this is in memory twice."""


def why_unreadable(error: Exception) -> str:
    """Why the browser gives no bytes of a file, for people."""
    if str(getattr(error, "name", "")) in ("NotReadableError", "NotFoundError"):
        return "it was changed, moved or deleted after it was chosen: choose it again"
    return f"the browser could not read it: {getattr(error, 'message', error)}"


class _Reader(io.RawIOBase, FillsMemory):
    """A file of ``size`` bytes; subclasses read parts of it into a ``Uint8Array``."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._at = 0
        self._block: Any = None
        self._block_at = self._block_size = 0

    @abstractmethod
    def _read_at(self, array: Any, offset: int) -> int:
        """Fill the array from ``offset``; return how many bytes were read."""

    def fill(self, array: Any) -> int:
        """Read into a ``Uint8Array`` from the current position."""
        wanted = min(int(array.length), max(0, self._size - self._at))
        done = 0
        while done < wanted:
            n = self._some(array.subarray(done, wanted))
            if n == 0:
                break
            done += n
            self._at += n
        return done

    def _some(self, array: Any) -> int:
        """Read some bytes: large reads directly into the array, small ones through a block read ahead."""
        try:
            if array.length >= _BLOCK:
                return self._read_at(array.subarray(0, _BLOCK), self._at)
            start = self._at - self._block_at
            if not 0 <= start < self._block_size:
                size = min(_BLOCK, self._size - self._at)
                self._block = self._block or new(js.Uint8Array, _BLOCK)
                self._block_at, start = self._at, 0
                self._block_size = self._read_at(self._block.subarray(0, size), self._at)
        except JsException as error:
            raise OSError(None, why_unreadable(error)) from error
        n = min(int(array.length), self._block_size - start)
        array.set(self._block.subarray(start, start + n))
        return n

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        array = new(js.Uint8Array, min(len(view), max(0, self._size - self._at)))
        n = self.fill(array)
        if n:
            array.subarray(0, n).assign_to(view[:n])
        return n

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = max(0, (0, self._at, self._size)[whence] + offset)
        return self._at

    def tell(self) -> int:
        return self._at


class BlobSource:
    """A ``File`` or ``Blob`` that was dropped, picked, or made by the page. The browser keeps its bytes."""

    def __init__(self, blob: Any, name: str = "") -> None:
        self.name = name or str(getattr(blob, "name", "")) or "model.gguf"
        self._blob = blob

    def open(self) -> BinaryIO:
        """A reader at its beginning."""
        return cast("BinaryIO", _BlobReader(self._blob))


class _BlobReader(_Reader):
    def __init__(self, blob: Any) -> None:
        super().__init__(int(blob.size))
        self._blob = blob
        self._reader = new(js.FileReaderSync)

    def _read_at(self, array: Any, offset: int) -> int:
        part = self._blob.slice(offset, offset + array.length)
        data = new(js.Uint8Array, self._reader.readAsArrayBuffer(part))
        array.set(data)
        return int(data.length)


class HandleSource:
    """An OPFS file through its ``FileSystemSyncAccessHandle``, which reads straight into the guest."""

    def __init__(self, handle: Any, name: str) -> None:
        self.name = name
        self._handle = handle

    def open(self) -> BinaryIO:
        """A reader at its beginning; the handle's owner closes the handle."""
        return cast("BinaryIO", _HandleReader(self._handle))


class _HandleReader(_Reader):
    def __init__(self, handle: Any) -> None:
        super().__init__(int(handle.getSize()))
        self._handle = handle

    def _read_at(self, array: Any, offset: int) -> int:
        return int(self._handle.read(array, js.Object.fromEntries([["at", offset]])))


class UrlSource:
    """A file on a server that answers range requests, read piece by piece as llama.cpp needs it.

    Of a split model any part will do, if all are beside each other.
    """

    def __init__(self, url: str, name: str = "") -> None:
        self.url = str(new(js.URL, url, js.location.href).href)
        self.name = name or self.url.split("?")[0].rpartition("/")[2] or "model.gguf"

    def open(self) -> BinaryIO:
        """A reader at its beginning.

        Raises:
            OSError: no answer, no such file, or no range requests.
        """
        return cast("BinaryIO", _UrlReader(self.url))

    def beside(self, number: int) -> UrlSource:
        """See :class:`llama_bridge.SplitSource`."""
        urls = part_urls(self.url)
        if not 1 <= number <= len(urls) or len(urls) == 1:
            raise FileNotFoundError(number)
        return UrlSource(urls[number - 1])


def part_urls(url: str) -> list[str]:
    """The addresses of all parts of a split model by that of one; of any other model its own."""
    path = re.split(r"[?#]", url, maxsplit=1)[0]
    called = read_part_name(path)
    if called is None:
        return [url]
    query = re.sub(r"#.*", "", url[len(path) :])
    return [url if name == path else name + query for name in called.all()]


class _UrlReader(_Reader):
    def __init__(self, url: str) -> None:
        self._url = url
        self._etag = ""
        answer = self._request("bytes=0-0")
        unit, _, size = (answer.getResponseHeader("Content-Range") or "").rpartition("/")
        if not unit or not size.isdigit():
            raise OSError(None, f"{url}: the server does not send its size: download it first")
        self._etag = answer.getResponseHeader("ETag") or ""
        super().__init__(int(size))

    def _read_at(self, array: Any, offset: int) -> int:
        answer = self._request(f"bytes={offset}-{offset + array.length - 1}")
        if (answer.getResponseHeader("ETag") or "") != self._etag:
            raise OSError(None, f"{self._url} changed on the server during the load: load it again")
        data = new(js.Uint8Array, answer.response)
        array.set(data)
        return int(data.length)

    def _request(self, part: str) -> Any:
        request = new(js.XMLHttpRequest)
        request.open("GET", self._url, False)
        request.responseType = "arraybuffer"
        request.setRequestHeader("Range", part)
        try:
            request.send()
        except JsException as error:
            raise OSError(None, f"{self._url}: the server does not answer: {error}") from error
        if request.status == 200:
            raise OSError(
                None, f"{self._url}: the server does not answer range requests: download it first"
            )
        if request.status != 206:
            raise OSError(
                None, f"{self._url}: the server says {request.status} {request.statusText}"
            )
        return request
