"""The captures of what a user names as sources of an export."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from pcap2arrow.dataset.api import is_dataset
from pcap2arrow.dataset.log import Dataset, open_dataset
from pcap2arrow.errors import UsageError
from pcap2arrow.inputs import find_captures
from pcap2arrow.savefile.source import STANDARD_INPUT, open_source
from pcap2arrow.writing.stream import FileStream, Stream, TableStream, open_stream

Sources = Iterable[str | os.PathLike[str]] | str | os.PathLike[str]
_COPY_STEP = 4 << 20


@contextmanager
def open_streams(sources: Sources, name: str | None, *, octets: bool = True) -> Iterator[list[Stream]]:
    """Streams of all captures of the sources, or of the one of that name; the same content of a dataset once.

    Where no ``octets`` are wanted, captures in datasets are read from their tables, whether these have any or not.
    """
    with ExitStack() as stack:
        streams: list[Stream] = []
        for source in [sources] if isinstance(sources, str | os.PathLike) else sources:
            if is_dataset(source):
                streams += _of_dataset(open_dataset(source), name, octets=octets)
            else:
                streams += [
                    FileStream(_spooled(found.path, stack), found.name)
                    for found in find_captures([source]).captures
                    if name in (None, found.name)
                ]
        if name is not None and not streams:
            raise UsageError(f"capture: there is none of the name {name!r}")
        yield streams


def _of_dataset(dataset: Dataset, name: str | None, *, octets: bool) -> list[Stream]:
    live = [capture for capture in dataset.snapshot().ordered() if name in (None, capture.name)]
    return [
        open_stream(dataset, capture) if octets else TableStream(dataset, capture)
        for capture in {capture.capture_id: capture for capture in live}.values()
    ]


def _spooled(path: str, stack: ExitStack) -> str:
    """A path that can be read twice."""
    if path != STANDARD_INPUT:
        return path
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pcap2arrow-"))
    with open_source(path) as source, tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        for offset in range(0, source.size, _COPY_STEP):
            file.write(source.read(offset, _COPY_STEP))
    return file.name
