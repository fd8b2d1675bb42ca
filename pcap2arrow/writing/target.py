"""Where captures are written to."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pcap2arrow.errors import DatasetError, ExportError
from pcap2arrow.urls import is_url

STANDARD_OUTPUT = "-"
CONTENT_TYPE = "application/pcap"
"""What captures are called in object stores."""

Target = str | os.PathLike[str] | IO[bytes]
"""A path, a URL of an object store, ``-`` for standard output, or a binary file."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written: ``packets`` (None where captures were copied whole), ``octets``, the ``files``.

    ``errors`` name captures that could not be written; everything else is done.
    """

    packets: int | None
    octets: int
    files: tuple[str, ...]
    errors: tuple[str, ...] = ()


def appears_whole(target: Target) -> bool:
    """Whether nothing is seen of the target before it is written to its end."""
    if not isinstance(target, str | os.PathLike) or os.fspath(target) == STANDARD_OUTPUT:
        return False
    path = Path(target)
    return not is_url(os.fspath(target)) and (not path.exists() or path.is_file())


@contextmanager
def open_target(target: Target) -> Iterator[tuple[IO[bytes], str]]:
    """The file to write, with its name; one at a path appears under it only when it is whole."""
    if not isinstance(target, str | os.PathLike):
        yield target, str(getattr(target, "name", "output"))
    elif os.fspath(target) == STANDARD_OUTPUT:
        yield sys.stdout.buffer, "standard output"
        sys.stdout.buffer.flush()
    elif is_url(os.fspath(target)):
        with _open_object(os.fspath(target)) as file:
            yield file, os.fspath(target)
    elif not appears_whole(target):
        with Path(target).open("wb") as device:
            yield device, os.fspath(target)
    else:
        path = Path(target)
        hidden = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with failing_as(path):
                with hidden.open("wb") as file:
                    yield file, str(path)
                hidden.replace(path)
        finally:
            hidden.unlink(missing_ok=True)


@contextmanager
def failing_as(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the system says of a file that is written into an ExportError that names the file."""
    try:
        yield
    except OSError as error:
        raise failed(path, error) from error


def failed(path: str | os.PathLike[str], error: OSError) -> ExportError:
    """What the system says of a file that is written, as an error that names the file."""
    return ExportError(f"{os.fspath(path)}: {os.strerror(error.errno) if error.errno else error}")


@contextmanager
def _open_object(url: str) -> Iterator[IO[bytes]]:
    from pcap2arrow.dataset.object_store import ObjectStore

    folder, _, name = url.rpartition("/")
    try:
        with ObjectStore(folder).output(name, content_type=CONTENT_TYPE) as raw:
            buffered = io.BufferedWriter(raw)
            yield buffered
            buffered.flush()
    except DatasetError as error:
        raise ExportError(str(error)) from error


def write_octets(file: IO[bytes], octets: Any) -> int:
    """Write octets; the result is how many."""
    file.write(octets)
    return len(octets)
