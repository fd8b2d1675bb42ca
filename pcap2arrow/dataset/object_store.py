"""A dataset in an object store (S3 and its like), through obstore; needs the extra ``s3``."""

from __future__ import annotations

import io
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from pcap2arrow.dataset.store import OutputFile, Store, Stored, failure, temporary_name
from pcap2arrow.errors import ConflictError, DatasetError
from pcap2arrow.urls import client_options, retry_config

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_REQUESTS_AT_ONCE = 16
_TAIL = 1 << 16
_ATTEMPTS = 4
"""Of requests that may be repeated: obstore gives up where a put gets no answer, or an answer's body ends early."""

_T = TypeVar("_T")


class ObjectStore(Store):
    """Objects below a URL's prefix.

    A put is atomic, and ``If-None-Match: *`` makes it conditional.  A client that retries after a lost answer
    can be told that its own object is in the way; the log allows for that.
    """

    def __init__(self, url: str, backend: Any = None) -> None:
        """The store of a URL, or ``backend``, a store of obstore's, which then goes by that URL."""
        self.url = url.rstrip("/")
        self._given = backend
        self._backend = _connect(url) if backend is None else backend

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.url, self._given)

    def create_if_absent(self, path: str, data: bytes) -> bool:
        """See :class:`Store`."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with self._naming(path):
            try:
                obstore.put(self._backend, path, data, mode="create", use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                return False
        return True

    def read(self, path: str) -> bytes | None:
        """See :class:`Store`."""
        import obstore

        with self._naming(path):
            try:
                return _again(lambda: bytes(obstore.get(self._backend, path).bytes()))
            except FileNotFoundError:
                return None

    def read_many(self, paths: Sequence[str]) -> list[bytes | None]:
        """See :class:`Store`; requests overlap."""
        return _at_once(self.read, paths)

    def write(self, path: str, data: bytes) -> None:
        """See :class:`Store`."""
        import obstore

        with self._naming(path):
            _again(lambda: obstore.put(self._backend, path, data))

    def sizes(self, paths: Sequence[str]) -> list[int | None]:
        """See :class:`Store`; requests overlap."""
        return _at_once(lambda path: stored.size if (stored := self._stat(path)) else None, paths)

    def list(self, folder: str) -> Iterator[Stored]:
        """See :class:`Store`."""
        import obstore

        with self._naming(folder):
            batches = _again(lambda: list(obstore.list(self._backend, prefix=folder or None)))
        for batch in batches:
            yield from map(_stored, batch)

    def delete(self, path: str) -> None:
        """See :class:`Store`."""
        import obstore

        with self._naming(path):
            try:
                _again(lambda: obstore.delete(self._backend, path))
            except FileNotFoundError:
                return

    def delete_if_older(self, path: str, time_ns: int) -> bool:
        """See :class:`Store`.

        Objects can't be set aside as files can: one that is written between the look at its time and its
        deletion is lost, which the writer's commit notices.
        """
        stored = self._stat(path)
        if stored is None or stored.mtime_ns > time_ns:
            return False
        self.delete(path)
        return True

    def now_ns(self) -> int:
        """See :class:`Store`: the time stamp that a new object gets."""
        path = temporary_name("_manifest/now")
        self.write(path, b"")
        try:
            stored = self._stat(path)
        finally:
            self.delete(path)
        if stored is None:
            raise DatasetError(f"{self.location(path)}: was just written, and is not there")
        return stored.mtime_ns

    @contextmanager
    def output(
        self, path: str, *, sync: bool = True, content_type: str | None = None
    ) -> Iterator[OutputFile]:
        """See :class:`Store`; ``content_type`` is what the store tells those who fetch the object.

        The octets wait in a temporary file of this machine, since an upload can't be taken back once it is
        closed.
        """
        import obstore

        attributes: Any = {"Content-Type": content_type} if content_type else None
        with tempfile.TemporaryFile(buffering=0) as spool:
            yield OutputFile(spool.fileno(), f"temporary file for {self.location(path)}")

            def put() -> None:
                spool.seek(0)
                obstore.put(self._backend, path, cast(BinaryIO, spool), attributes=attributes)

            with self._naming(path):
                _again(put)

    def input(self, path: str, *, size: int | None = None) -> BinaryIO:
        """See :class:`Store`."""
        return cast(BinaryIO, _ObjectFile(self, path, self.stat(path).size if size is None else size))

    def read_range(self, path: str, start: int, end: int, *, etag: str | None = None) -> bytes:
        """Octets ``start`` to ``end`` (exclusive) of an object.

        Raises ConflictError where it is no longer the one with that ``etag``.
        """
        import obstore
        from obstore.exceptions import PreconditionError

        options: Any = {"range": (start, end)} | ({"if_match": etag} if etag else {})
        with self._naming(path):
            try:
                return _again(lambda: bytes(obstore.get(self._backend, path, options=options).bytes()))
            except PreconditionError:
                raise ConflictError(f"{self.location(path)}: another object took its place") from None

    def stat(self, path: str) -> Stored:
        """What is known of an object.  Raises DatasetError where there is none."""
        stored = self._stat(path)
        if stored is None:
            raise failure(self.location(path), FileNotFoundError(2, os.strerror(2)))
        return stored

    def _stat(self, path: str) -> Stored | None:
        import obstore

        with self._naming(path):
            try:
                return _stored(_again(lambda: obstore.head(self._backend, path)))
            except FileNotFoundError:
                return None

    @contextmanager
    def _naming(self, path: str) -> Iterator[None]:
        """Turn obstore's errors into ours, by their first line: the rest is for debugging."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise DatasetError(f"{self.location(path)}: {reason}") from error


class _ObjectFile(io.RawIOBase):
    """An object as a file: every read is a range request, but that the last octets are fetched once.

    There a Parquet file says what it holds.
    """

    def __init__(self, store: ObjectStore, path: str, size: int) -> None:
        super().__init__()
        self._store, self._path, self._size = store, path, size
        self._offset = 0
        self._tail = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._size}[whence]
        self._offset = max(0, base + offset)
        return self._offset

    def tell(self) -> int:
        return self._offset

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        end = min(self._offset + len(view), self._size)
        if end <= self._offset:
            return 0
        data = self._read(self._offset, end)
        view[: len(data)] = data
        self._offset += len(data)
        return len(data)

    def _read(self, start: int, end: int) -> bytes:
        tail = max(self._size - _TAIL, 0)
        if start < tail:
            return self._store.read_range(self._path, start, end)
        if not self._tail:
            self._tail = self._store.read_range(self._path, tail, self._size)
        return self._tail[start - tail : end - tail]


def _connect(url: str) -> Any:
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError:
        raise DatasetError(
            f"{url}: object stores need the extra `s3`: pip install 'pcap2arrow[s3]'"
        ) from None
    try:
        connect: Any = from_url  # its overloads want to know the kind of URL
        return connect(url, client_options=client_options(), retry_config=retry_config())
    except (BaseError, ValueError) as error:
        raise DatasetError(f"{url}: {str(error).partition(chr(10))[0]}") from error


def _again(request: Callable[[], _T]) -> _T:
    """The result of a request that does no harm when it is repeated, as it is after an unclear failure."""
    from obstore.exceptions import GenericError

    for attempt in range(_ATTEMPTS):
        try:
            return request()
        except GenericError:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(random.uniform(0.05, 0.1) * 2**attempt)
    raise AssertionError("unreachable")


def _at_once(read: Callable[[str], _T], paths: Sequence[str]) -> list[_T]:
    if len(paths) < 2:
        return [read(path) for path in paths]
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
        return list(pool.map(read, paths))


def _stored(meta: Any) -> Stored:
    seconds = meta["last_modified"].timestamp()
    return Stored(meta["path"], meta["size"], int(seconds * 1_000_000) * 1000, meta["e_tag"])
