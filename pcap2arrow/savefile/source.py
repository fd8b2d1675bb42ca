"""Where a capture's octets come from: a local file, a URL, standard input; compressed or not.

Whatever it is, a reader sees one thing: a size, and octets at any offset.  Compressed input and standard input are
spooled to a temporary file through bounded memory.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from stat import S_ISREG
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from pcap2arrow.dataset.snapshot import Source as Stamp
from pcap2arrow.errors import ConflictError, DatasetError, FormatError, LimitError, SourceError
from pcap2arrow.savefile.batch import PAD
from pcap2arrow.urls import bucket_and_key, filesystem, is_url, names_object, reason, remote_errors

if TYPE_CHECKING:
    from pcap2arrow.dataset.object_store import ObjectStore
    from pcap2arrow.dataset.store import Stored

STANDARD_INPUT = "-"
MAX_RATIO = 2048
"""A compressed capture that grows by more than this is refused; gzip can't pass 1 032."""

_RATIO_COUNTS_FROM = 64 << 20
_SPOOL_STEP = 1 << 18
_MOST_LISTED = 4 << 20  # octets of a zip archive's list that are taken into memory
_READ_AHEAD = 1 << 20
_MAX_WINDOW_LOG = 27  # memory that a zstd stream may ask for: 128 MiB


class _Octets(Protocol):
    """Random access to stored octets."""

    @property
    def size(self) -> int: ...

    def read_into(self, offset: int, target: memoryview) -> int: ...


@dataclass(frozen=True, slots=True)
class _LocalFile:
    file: IO[bytes]
    size: int
    stamp: Stamp | None = None

    def read_into(self, offset: int, target: memoryview) -> int:
        done = 0
        while done < len(target):
            count = os.preadv(self.file.fileno(), [target[done:]], offset + done)
            if not count:
                break
            done += count
        return done


@dataclass(frozen=True, slots=True)
class _RemoteFile:
    url: str
    filesystem: Any
    path: str
    size: int

    def read_into(self, offset: int, target: memoryview) -> int:
        end = min(offset + len(target), self.size)
        if end <= offset:
            return 0
        try:
            octets = self.filesystem.cat_file(self.path, start=offset, end=end)
        except remote_errors() as error:
            raise SourceError(f"{self.url}: can't read at offset {offset}: {reason(error)}") from error
        target[: len(octets)] = octets
        return len(octets)


@dataclass(frozen=True, slots=True)
class _Object:
    """An object of a store: every request asks for the one that was there when it was opened."""

    url: str
    store: ObjectStore
    key: str
    stored: Stored

    @property
    def size(self) -> int:
        return self.stored.size

    def read_into(self, offset: int, target: memoryview) -> int:
        end = min(offset + len(target), self.size)
        if end <= offset:
            return 0
        try:
            octets = self.store.read_range(self.key, offset, end, etag=self.stored.etag)
        except ConflictError:
            raise SourceError(f"{self.url}: input changed: another object took its place") from None
        except DatasetError as error:
            raise SourceError(f"{error}: can't read at offset {offset}") from error
        target[: len(octets)] = octets
        return len(octets)


@dataclass(frozen=True, slots=True)
class Source:
    """A capture's octets, decompressed: ``size`` of them.

    ``name`` is what messages call it; ``compression`` names the compression that was undone, if any; ``cut`` says
    why decompression ended before the end, '' if it did not.
    """

    name: str
    octets: _Octets
    compression: str | None = None
    cut: str = ""

    pad = PAD

    @property
    def size(self) -> int:
        """Octets of the capture."""
        return self.octets.size

    def window(
        self, offset: int, length: int, *, memory: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """``length`` octets from ``offset`` on, followed by :data:`PAD` zeros.

        They are read into ``memory``, where it is given: it must be long enough.
        Raises SourceError where the file has become shorter than it was.
        """
        data = np.empty(length + PAD, dtype=np.uint8) if memory is None else memory[: length + PAD]
        try:
            count = self.octets.read_into(offset, data.data[:length])
        except OSError as error:
            raise SourceError(f"{self.name}: can't read at offset {offset}: {reason(error)}") from error
        if count < length:
            raise SourceError(
                f"{self.name}: input changed: it ends at {offset + count} of {self.size} octets"
            )
        data[length:] = 0
        return data

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` octets from ``offset`` on; fewer at the end."""
        length = max(min(length, self.size - offset), 0)
        return self.window(offset, length)[:length].tobytes()


def stamp(path: str) -> Stamp:
    """The stamp of a stored capture as it is now.  Raises SourceError if there is none."""
    if path == STANDARD_INPUT:
        return Stamp(path)
    try:
        if names_object(path):
            _, _, held = _object(path)
            return Stamp(path, held.size, None, None, held.etag)
        if is_url(path):
            remote, inner = filesystem(path)
            found = remote.info(inner)
            etag = found.get("e_tag") or found.get("ETag") or found.get("etag")
            return Stamp(path, int(found["size"]), None, None, str(etag) if etag else None)
        status = Path(path).stat()
    except remote_errors() as error:
        raise SourceError(f"{path}: {reason(error)}") from error
    return _local_stamp(path, status)


def _local_stamp(path: str, status: os.stat_result) -> Stamp:
    return Stamp(str(Path(path).absolute()), status.st_size, status.st_mtime_ns, status.st_ino)


def check_unchanged(path: str, name: str, before: Stamp) -> None:
    """Raise SourceError where a stored capture is another one by now, or was written to."""
    now = stamp(path)
    if now != before:
        raise SourceError(f"{name}: input changed while it was read: {_difference(before, now)}")


def _difference(before: Stamp, now: Stamp) -> str:
    if now.size != before.size:
        return f"{before.size} octets, then {now.size}"
    return "it was replaced" if (now.inode, now.etag) != (before.inode, before.etag) else "it was written to"


def compression_of(head: bytes) -> str | None:
    """Name of the compression whose stream begins with these octets, None if it is none."""
    return next((name for name, (magic, _) in _COMPRESSIONS.items() if head.startswith(magic)), None)


@contextmanager
def open_source(
    path: str, *, name: str | None = None, spool: str | None = None, before: Stamp | None = None
) -> Iterator[Source]:
    """Open a capture: a local path, a URL that fsspec knows, or ``-`` for standard input.

    ``spool`` is the folder for temporary files.  ``before`` is the capture's stamp from when the job began, if that is
    not now.  Raises SourceError where it can't be opened, or is another by the end of the ``with`` block, LimitError
    where it decompresses beyond :data:`MAX_RATIO`.
    """
    name = name or path
    try:
        with _open_stored(path, spool) as stored:
            before = before or getattr(stored, "stamp", None)
            with _decompressed(stored, name, spool) as source:
                yield source
    except FormatError:
        _check_if_known(path, name, before)  # what was read of another one is no fault of this one's
        raise
    _check_if_known(path, name, before)


def _check_if_known(path: str, name: str, before: Stamp | None) -> None:
    if before is not None and path != STANDARD_INPUT:
        check_unchanged(path, name, before)


@contextmanager
def _decompressed(stored: _Octets, name: str, spool: str | None) -> Iterator[Source]:
    source = Source(name, stored)
    compression = compression_of(source.read(0, 6))
    if compression is None:
        yield source
        return
    with tempfile.TemporaryFile(dir=spool) as file:
        cut = _decompress(stored, compression, file, name)
        yield Source(name, _LocalFile(file, file.tell()), compression, cut)


@contextmanager
def _open_stored(path: str, spool: str | None) -> Iterator[_Octets]:
    with ExitStack() as stack:
        try:
            stored = _stored(path, spool, stack)
        except remote_errors() as error:
            raise SourceError(f"{path}: {reason(error)}") from error
        yield stored


def _stored(path: str, spool: str | None, stack: ExitStack) -> _Octets:
    if path == STANDARD_INPUT:
        spooled = stack.enter_context(tempfile.TemporaryFile(dir=spool))  # noqa: SIM115
        shutil.copyfileobj(sys.stdin.buffer, spooled, _SPOOL_STEP)
        spooled.flush()
        return _LocalFile(spooled, spooled.tell())
    if names_object(path):
        return _Object(path, *_object(path))
    if is_url(path):
        remote, inner = filesystem(path)
        return _RemoteFile(path, remote, inner, int(remote.info(inner)["size"]))
    file = stack.enter_context(Path(path).open("rb"))  # noqa: SIM115
    status = os.fstat(file.fileno())
    if not S_ISREG(status.st_mode):
        raise ValueError("not a regular file")
    return _LocalFile(file, status.st_size, _local_stamp(path, status))


def _object(url: str) -> tuple[ObjectStore, str, Stored]:
    """The store of an object's bucket, its key, and what is there.  Raises SourceError."""
    bucket, key = bucket_and_key(url)
    store = _bucket(bucket)
    try:
        return store, key, store.stat(key)
    except DatasetError as error:
        raise SourceError(str(error)) from error


@cache
def _bucket(bucket: str) -> ObjectStore:
    """The store at the URL of a bucket, whose connections are used again."""
    from pcap2arrow.dataset.object_store import ObjectStore

    return ObjectStore(bucket)


class _Stream(Protocol):
    def read1(self, size: int, /) -> bytes: ...


def _open_zstd(file: IO[bytes]) -> _Stream:
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << _MAX_WINDOW_LOG)
    return decompressor.stream_reader(file, read_across_frames=True)


def _open_lz4(file: IO[bytes]) -> _Stream:
    import lz4.frame

    stream: _Stream = lz4.frame.LZ4FrameFile(file)
    return stream


class _MembersError(Exception):
    """An archive does not say which capture is meant."""


def _open_zip(file: IO[bytes]) -> _Stream:
    """The one file of an archive.  Raises _MembersError where it has none, or several."""
    archive = zipfile.ZipFile(_Seekable(cast("_Sequential", file)))
    members = [each for each in archive.infolist() if not each.is_dir()]
    if len(members) != 1:
        raise _MembersError(
            f"expected a zip archive of one file, found one of {len(members)}: unpack it first"
        )
    return cast("_Stream", archive.open(members[0]))


_COMPRESSIONS: dict[str, tuple[bytes, Callable[[IO[bytes]], _Stream]]] = {
    "gzip": (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    "bzip2": (b"BZh", bz2.BZ2File),
    "xz": (b"\xfd7zXZ\0", lzma.LZMAFile),
    "zstd": (b"\x28\xb5\x2f\xfd", _open_zstd),
    "lz4": (b"\x04\x22\x4d\x18", _open_lz4),
    "zip": (b"PK\x03\x04", _open_zip),
}


class _Sequential:
    """Stored octets as the file object that decompressors want; ``position`` tells how many they took.

    They ask for little at a time, which is read ahead: from a URL every reading is a request.
    """

    def __init__(self, stored: _Octets) -> None:
        self._stored = stored
        self.position = 0
        self._ahead = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        left = self._stored.size - self.position
        wanted = left if size < 0 else min(size, left)
        if wanted > len(self._ahead):
            self._read_ahead(min(max(wanted, _READ_AHEAD), left))
        taken, self._ahead = self._ahead[:wanted], self._ahead[wanted:]
        self.position += len(taken)
        return bytes(taken)

    @property
    def size(self) -> int:
        """How many octets there are."""
        return self._stored.size

    def move(self, position: int) -> int:
        """Go on at that octet, or the end."""
        self.position, self._ahead = min(position, self._stored.size), memoryview(b"")
        return self.position

    def _read_ahead(self, length: int) -> None:
        have = len(self._ahead)
        target = memoryview(bytearray(length))
        target[:have] = self._ahead
        count = self._stored.read_into(self.position + have, target[have:])
        self._ahead = target[: have + count]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        return self.position

    closed = False


class _Seekable(io.RawIOBase):
    """The same, of which any octets can be read: the list of a zip archive stands at its end."""

    def __init__(self, octets: _Sequential) -> None:
        self._octets = octets

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        octets = self._octets
        from_where = {os.SEEK_SET: 0, os.SEEK_CUR: octets.position, os.SEEK_END: octets.size}[whence]
        return octets.move(max(from_where + offset, 0))

    def read(self, size: int = -1, /) -> bytes:
        if size > _MOST_LISTED:
            raise ValueError(f"a list of {size} octets")
        return self._octets.read(size)


def _decompress(stored: _Octets, compression: str, target: IO[bytes], name: str) -> str:
    """Decompress everything into ``target``; the result says why it ended early, '' if it did not."""
    file = _Sequential(stored)
    written = 0
    try:
        stream = _COMPRESSIONS[compression][1](file)  # type: ignore[arg-type]
        while octets := stream.read1(_SPOOL_STEP):
            target.write(octets)
            written += len(octets)
            if written > max(_RATIO_COUNTS_FROM, file.position * MAX_RATIO):
                raise LimitError(
                    f"{name}: {file.position} octets of {compression} grow more than {MAX_RATIO} times"
                )
    except _MembersError as error:
        raise SourceError(f"{name}: {error}") from None
    except _errors_of(compression) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        return f"expected more {compression} data at octet {file.position}, found: {reason(error)}"
    finally:
        target.flush()
    return ""


def _errors_of(compression: str) -> tuple[type[Exception], ...]:
    """What decompressors raise where the data are damaged or end early."""
    errors = (EOFError, OSError, ValueError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
    if compression != "zstd":
        return errors
    import zstandard

    return (*errors, zstandard.ZstdError)


def peek_stored(path: str, length: int = 16) -> bytes:
    """The first octets of a file as they are stored.  Raises SourceError where it can't be opened."""
    with _open_stored(path, None) as stored:
        return Source(path, stored).read(0, length)


def peek(path: str, length: int = 16) -> bytes:
    """The first octets of a capture, of a compressed one those inside; as many as there are.

    Raises SourceError where the file can't be opened, or is an archive of several.
    """
    with _open_stored(path, None) as stored:
        head = Source(path, stored).read(0, max(length, 6))
        compression = compression_of(head)
        if compression is None:
            return head[:length]
        try:
            stream = _COMPRESSIONS[compression][1](_Sequential(stored))  # type: ignore[arg-type]
            return stream.read1(length)[:length]
        except _MembersError as error:
            raise SourceError(f"{path}: {error}") from None
        except _errors_of(compression):
            return b""
