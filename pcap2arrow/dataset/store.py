"""Where a dataset lives: files under relative paths, on a local disk or in an object store.

What the log needs of a place is small: create a file only if it is absent, read, replace whole files, list,
and delete what is old.  :class:`LocalStore` does it on a file system, ``object_store.ObjectStore`` on S3 and
its like.
"""

from __future__ import annotations

import io
import os
import random
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote

from pcap2arrow.errors import DatasetError

if TYPE_CHECKING:
    import pyarrow as pa
    from _typeshed import ReadableBuffer


_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Stored:
    """A file of the store: its path, its size in octets, and when it was written (nanoseconds since 1970).

    ``etag`` is what tells an object from one that takes its place, null on a file system.
    """

    path: str
    size: int
    mtime_ns: int
    etag: str | None = None


class Store(ABC):
    """Files under relative paths with ``/`` between folders; folders come and go with their files.

    Every failure is a :class:`~pcap2arrow.errors.DatasetError` that names the file.  Stores can be pickled,
    for workers.
    """

    url: str
    """The place itself: an absolute path, or a URL."""

    @abstractmethod
    def create_if_absent(self, path: str, data: bytes) -> bool:
        """Create a file, durably and whole; False where there is one.

        After a lost answer, that may be the very file that this call created.
        """

    @abstractmethod
    def read(self, path: str) -> bytes | None:
        """A file's octets; None where there is none."""

    def read_many(self, paths: Sequence[str]) -> list[bytes | None]:
        """What :meth:`read` gives for each path."""
        return [self.read(path) for path in paths]

    @abstractmethod
    def write(self, path: str, data: bytes) -> None:
        """Create or replace a file, durably; a reader sees the old one or the new one, whole."""

    @abstractmethod
    def sizes(self, paths: Sequence[str]) -> list[int | None]:
        """Size in octets of each file; None where there is none."""

    @abstractmethod
    def list(self, folder: str) -> Iterator[Stored]:
        """Files in a folder and below, in no order; all files for ``""``, none where the folder is absent."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Delete a file; nothing happens where there is none."""

    @abstractmethod
    def delete_if_older(self, path: str, time_ns: int) -> bool:
        """Delete a file unless it is absent or was written after ``time_ns``; whether it was deleted."""

    @abstractmethod
    def now_ns(self) -> int:
        """Time by the clock that stamps this store's files, in nanoseconds since 1970."""

    @abstractmethod
    def output(self, path: str, *, sync: bool = True) -> AbstractContextManager[OutputFile]:
        """A new file that appears when the context ends, or, when that ends in an error, not at all."""

    @abstractmethod
    def input(self, path: str, *, size: int | None = None) -> BinaryIO | pa.NativeFile:
        """A file open for reading at any offset; its ``size``, where it is known, saves a request."""

    def location(self, path: str) -> str:
        """The file's absolute path, or its URL."""
        return f"{self.url}/{path}"


class OutputFile(io.RawIOBase):
    """A file that is being written, unbuffered, front to back.

    ``size`` is the number of octets so far.  Closing it changes nothing: it is published by its context.
    """

    def __init__(self, descriptor: int, location: str) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._location = location
        self.size = 0

    def writable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Number of octets written."""
        return self.size

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of ``data``.

        Raises:
            DatasetError: naming the file, for instance where the disk is full.
        """
        view = memoryview(data).cast("B")
        length = len(view)
        try:
            while len(view):
                written = os.write(self._descriptor, view)
                self.size += written
                view = view[written:]
        except OSError as error:
            raise failure(self._location, error) from error
        return length


def failure(location: str, error: Exception) -> DatasetError:
    """The error that says what went wrong with which file."""
    number = getattr(error, "errno", None)  # what Arrow says of it names the file once more
    return DatasetError(f"{location}: {os.strerror(number) if number else error}")


def temporary_name(path: str) -> str:
    """A new name beside ``path`` that every reader ignores: hidden, and without the suffix of a data file."""
    beside = PurePosixPath(path)
    return str(beside.with_name(f".{beside.name[:64]}.{uuid.uuid4().hex}.tmp"))


def is_temporary(path: str) -> bool:
    """Whether ``path`` is one of :func:`temporary_name`, or lies below one."""
    return any(part.startswith(".") and part.endswith(".tmp") for part in path.split("/"))


def open_store(url: str | os.PathLike[str] | Store) -> Store:
    """The store at a path, a ``file://`` URL, or a URL that obstore knows (``s3://bucket/prefix``, ``gs://``,
    ``az://``, …).

    Credentials and regions of object stores come from the environment.  Nothing is read or written here.

    Raises:
        DatasetError: for a URL that no store answers to, or an object store without the extra ``s3``.
    """
    if isinstance(url, Store):
        return url
    text = os.fspath(url)
    if text.startswith("file://") or "://" not in text:
        from pcap2arrow.dataset.local_store import LocalStore

        return LocalStore(Path(unquote(text.removeprefix("file://")) if text.startswith("file://") else text))
    from pcap2arrow.dataset.object_store import ObjectStore

    return ObjectStore(text)


def create(store: Store, path: str, data: bytes) -> bool:
    """Create a file if it is absent; whether ``data`` is what stands there now.

    After an error, or where something is in the way, the outcome is what is found afterwards: an answer can be lost on
    its way, and then a client that tries again is refused for its own file.

    Raises:
        DatasetError: if the file could not be created, and nobody else's is there.
    """
    problem: DatasetError | None = None
    for attempt in range(_ATTEMPTS):
        try:
            if store.create_if_absent(path, data):
                return True
            found = store.read(path)
        except DatasetError as error:
            problem = error
            found = _read_quietly(store, path)
        if found is not None:
            return found == data
        time.sleep(random.uniform(0.5, 1.0) * 0.02 * 2**attempt)
    raise problem or DatasetError(f"{store.location(path)}: can't be created, though nothing is there")


def _read_quietly(store: Store, path: str) -> bytes | None:
    try:
        return store.read(path)
    except DatasetError:
        return None


def probe(store: Store) -> None:
    """Make sure that the store refuses to create what is there: the whole log rests on that.

    Raises:
        DatasetError: if it accepts the same create twice, or can't do it at all.
    """
    path, first, second = temporary_name("_manifest/probe"), b"first", b"second"
    try:
        refused = create(store, path, first) and not create(store, path, second)
        if not refused or store.read(path) != first:
            raise DatasetError(
                f"{store.url}: this store overwrites a file that it should only create if absent, so two "
                "writers could undo each other's commits: no dataset can be kept here"
            )
    finally:
        store.delete(path)
