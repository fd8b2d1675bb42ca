"""Where captures are written to."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pcap2arrow.errors import ExportError

STANDARD_OUTPUT = "-"
Target = str | os.PathLike[str] | IO[bytes]
"""A path, ``-`` for standard output, or a binary file."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written: ``packets`` (None where captures were copied whole), ``octets``, the ``files``.

    ``errors`` name captures that could not be written; everything else is done.
    """

    packets: int | None
    octets: int
    files: tuple[str, ...]
    errors: tuple[str, ...] = ()


@contextmanager
def open_target(target: Target) -> Iterator[tuple[IO[bytes], str]]:
    """The file to write, with its name; one at a path appears under it only when it is whole."""
    if not isinstance(target, str | os.PathLike):
        yield target, str(getattr(target, "name", "output"))
    elif os.fspath(target) == STANDARD_OUTPUT:
        yield sys.stdout.buffer, "standard output"
        sys.stdout.buffer.flush()
    elif Path(target).exists() and not Path(target).is_file():
        with Path(target).open("wb") as device:
            yield device, os.fspath(target)
    else:
        path = Path(target)
        hidden = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with hidden.open("wb") as file:
                yield file, str(path)
            hidden.replace(path)
        except OSError as error:
            raise ExportError(f"{path}: {error.strerror or error}") from error
        finally:
            hidden.unlink(missing_ok=True)


def write_octets(file: IO[bytes], octets: Any) -> int:
    """Write octets; the result is how many."""
    file.write(octets)
    return len(octets)
