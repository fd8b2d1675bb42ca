"""The captures of what a user names as sources of an export."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pcap2arrow.dataset.api import is_dataset
from pcap2arrow.dataset.log import Dataset, open_dataset
from pcap2arrow.errors import UsageError
from pcap2arrow.writing.sources.reader import FileReader, Reader, TableReader, open_reader

if TYPE_CHECKING:
    from pcap2arrow.inputs import Input

Sources = Iterable[str | os.PathLike[str]] | str | os.PathLike[str]
_COPY_STEP = 4 << 20


@contextmanager
def open_readers(sources: Sources, name: str | None, *, octets: bool = True) -> Iterator[list[Reader]]:
    """Streams of all captures of the sources, or of the one of that name; the same content of a dataset once.

    Where no ``octets`` are wanted, captures in datasets are read from their tables, whether these have any or not.
    """
    with ExitStack() as stack:
        readers: list[Reader] = []
        for source in [sources] if isinstance(sources, str | os.PathLike) else sources:
            if is_dataset(source):
                readers += _of_dataset(open_dataset(source), name, octets=octets)
            else:
                readers += _in_place(source, name, stack)
        if name is not None and not readers:
            raise UsageError(f"capture: there is none of the name {name!r}")
        yield readers


def _of_dataset(dataset: Dataset, name: str | None, *, octets: bool) -> list[Reader]:
    live = [capture for capture in dataset.snapshot().ordered() if name in (None, capture.name)]
    return [
        open_reader(dataset, capture) if octets else TableReader(dataset, capture)
        for capture in {capture.capture_id: capture for capture in live}.values()
    ]


def _in_place(source: str | os.PathLike[str], name: str | None, stack: ExitStack) -> list[FileReader]:
    from pcap2arrow.inputs import find_captures

    return [_reader(found, stack) for found in find_captures([source]).captures if name in (None, found.name)]


def _reader(found: Input, stack: ExitStack) -> FileReader:
    from pcap2arrow.savefile.source import stamp

    path = _spooled(found.path, stack)
    return FileReader(path, found.name, before=stamp(path))


def _spooled(path: str, stack: ExitStack) -> str:
    """A path that can be read twice."""
    import tempfile

    from pcap2arrow.savefile.source import STANDARD_INPUT, open_source

    if path != STANDARD_INPUT:
        return path
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pcap2arrow-"))
    with open_source(path) as source, tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        for offset in range(0, source.size, _COPY_STEP):
            file.write(source.read(offset, _COPY_STEP))
    return file.name
