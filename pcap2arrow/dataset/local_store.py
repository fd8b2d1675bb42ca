"""A dataset on a file system: whole files under atomic names, durable before anyone is told of them."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pcap2arrow.dataset.store import OutputFile, Store, Stored, failure, temporary_name

if TYPE_CHECKING:
    import pyarrow as pa

_LINKS_REFUSED = {
    errno.EPERM,
    errno.EOPNOTSUPP,
    errno.ENOTSUP,
    errno.ENOSYS,
    errno.EMLINK,
    errno.EXDEV,
    errno.EINVAL,
}
_NO_SYNC = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EBADF}

_FOLDER_ATTEMPTS = 8


class LocalStore(Store):
    """Files below a folder.

    A file is written under a temporary name beside its own, synced, and then given its name: by a hard link
    where it has to be absent, by a rename where it may be replaced.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self.url = str(self._root)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self._root,)

    def create_if_absent(self, path: str, data: bytes) -> bool:
        """See :class:`Store`."""
        target, temporary = self._root / path, self._root / temporary_name(path)
        with self._naming(path):
            if target.exists():
                return False
            self._write_new(temporary, data)
            try:
                self._link(temporary, target)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _LINKS_REFUSED:
                    raise
                return self._claim(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
            _sync_folder(target.parent)
        return True

    def read(self, path: str) -> bytes | None:
        """See :class:`Store`."""
        with self._naming(path):
            try:
                return (self._root / path).read_bytes()
            except FileNotFoundError:
                return None

    def write(self, path: str, data: bytes) -> None:
        """See :class:`Store`."""
        with self.output(path) as file:
            file.write(data)

    def sizes(self, paths: Sequence[str]) -> list[int | None]:
        """See :class:`Store`."""
        return [self._size(path) for path in paths]

    def _size(self, path: str) -> int | None:
        with self._naming(path):
            try:
                return (self._root / path).stat().st_size
            except FileNotFoundError:
                return None

    def list(self, folder: str) -> Iterator[Stored]:
        """See :class:`Store`."""
        with self._naming(folder):
            yield from self._walk(f"{self.url}/{folder}" if folder else self.url)

    def _walk(self, folder: str) -> Iterator[Stored]:
        try:
            entries = list(os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(entry.path)
                continue
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                yield Stored(entry.path[len(self.url) + 1 :], status.st_size, status.st_mtime_ns)

    def delete(self, path: str) -> None:
        """See :class:`Store`."""
        target = self._root / path
        with self._naming(path):
            target.unlink(missing_ok=True)
            shutil.rmtree(_claim_of(target), ignore_errors=True)

    def delete_if_older(self, path: str, time_ns: int) -> bool:
        """See :class:`Store`.

        The file is renamed before its time is looked at, and put back if it is young: a writer that publishes
        it anew meanwhile is either noticed or comes after.
        """
        target, aside = self._root / path, self._root / temporary_name(path)
        with self._naming(path):
            try:
                target.rename(aside)
            except FileNotFoundError:
                return False
            if aside.lstat().st_mtime_ns > time_ns:
                aside.rename(target)
                return False
            aside.unlink()
            with suppress(OSError):  # the folder stays where it holds other files
                if target.parent.parent != self._root:
                    target.parent.rmdir()
        return True

    def now_ns(self) -> int:
        """See :class:`Store`: the time stamp of a new file, for the disk may be another machine's."""
        path = temporary_name("_manifest/now")
        with self._naming(path):
            self._write_new(self._root / path, b"")
            try:
                return (self._root / path).stat().st_mtime_ns
            finally:
                (self._root / path).unlink(missing_ok=True)

    @contextmanager
    def output(self, path: str, *, sync: bool = True) -> Iterator[OutputFile]:
        """See :class:`Store`."""
        target, temporary = self._root / path, self._root / temporary_name(path)
        with self._naming(path):
            descriptor = self._open_new(temporary)
        try:
            yield OutputFile(descriptor, self.location(path))
            with self._naming(path):
                if sync:
                    os.fsync(descriptor)
                temporary.rename(target)
                if sync:
                    _sync_folder(target.parent)
        finally:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)

    def input(self, path: str, *, size: int | None = None) -> pa.NativeFile:
        """See :class:`Store`."""
        import pyarrow as pa

        with self._naming(path):
            return pa.OSFile(str(self._root / path))

    def _link(self, source: Path, target: Path) -> None:
        os.link(source, target)

    def _claim(self, temporary: Path, target: Path) -> bool:
        """Create ``target`` on a file system without hard links.

        Opening it exclusively would do, were it not that a writer that dies before its first octet leaves an
        empty file for ever.  So what is created exclusively is a folder that already holds the octets:
        renaming it to ``<target>.claim`` fails where that is.  Whoever finds a claim without its target
        finishes it.  Claims stay.
        """
        holder, claim = Path(f"{temporary}.tmp"), _claim_of(target)
        holder.mkdir()
        temporary.rename(holder / "data")
        _sync_folder(holder)
        try:
            holder.rename(claim)
        except OSError:
            shutil.rmtree(holder, ignore_errors=True)
            if not claim.exists():
                raise
            won = False
        else:
            won = True
        if not target.exists():
            self.write(target.relative_to(self._root).as_posix(), (claim / "data").read_bytes())
        return won

    def _write_new(self, path: Path, data: bytes) -> None:
        descriptor = self._open_new(path)
        try:
            OutputFile(descriptor, str(path)).write(data)
            os.fsync(descriptor)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    def _open_new(self, path: Path) -> int:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        for _ in range(_FOLDER_ATTEMPTS):
            # A vacuum can clear an empty folder away between its making and its first file.
            with suppress(FileNotFoundError):
                return os.open(path, flags, 0o666)
            _make_folder(path.parent)
        return os.open(path, flags, 0o666)

    @contextmanager
    def _naming(self, path: str) -> Iterator[None]:
        """Turn the file system's errors into ours."""
        try:
            yield
        except OSError as error:
            raise failure(self.location(path), error) from error


def _claim_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.claim")


def _make_folder(folder: Path) -> None:
    """Create a folder and those above it, durably."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)
