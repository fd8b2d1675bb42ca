"""Streams as files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcap2arrow.errors import ExportError
from queries.streams.assembly import Assembly, octets
from queries.streams.packets import Packets

_BATCH = 64 << 20  # octets gathered at once


def write_files(
    packets: Packets,
    assembly: Assembly,
    streams: NDArray[np.int64],
    names: Sequence[str],
    folder: Path,
) -> None:
    """Write streams, each to the file of its name in a folder; holes are left to the file system.

    Raises ExportError where a file can't be written, or is there already.
    """
    folders: set[str] = set()
    at = 0
    while at < len(streams):
        stop = _batch_end(assembly, streams, at)
        bounds = assembly.bounds[streams[at]], assembly.bounds[streams[stop - 1] + 1]
        data = memoryview(octets(packets, assembly, slice(*bounds)))
        places = np.append(0, np.cumsum((assembly.end - assembly.start)[slice(*bounds)])).tolist()
        for stream, name in zip(streams[at:stop].tolist(), names[at:stop], strict=True):
            path = folder / name
            if "/" in name and (parent := str(path.parent)) not in folders:
                path.parent.mkdir(parents=True, exist_ok=True)
                folders.add(parent)
            first, last = assembly.bounds[stream] - bounds[0], assembly.bounds[stream + 1] - bounds[0]
            _write(path, assembly, bounds[0], range(first, last), places, data)
        at = stop


def _batch_end(assembly: Assembly, streams: NDArray[np.int64], at: int) -> int:
    """Streams whose pieces lie side by side and make up about a batch."""
    held = np.cumsum((assembly.size - assembly.missing)[streams[at:]])
    return at + max(int(np.searchsorted(held, _BATCH)), 1)


def _write(
    path: Path, assembly: Assembly, base: int, pieces: range, places: Sequence[int], data: memoryview
) -> None:
    """A file of pieces, of which those that follow one another are written at once."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            for run in _runs(assembly, base, pieces):
                chunk = data[places[run.start] : places[run.stop]]
                _write_all(handle, chunk, int(assembly.start[base + run.start]))
        finally:
            os.close(handle)
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror}") from error


def _runs(assembly: Assembly, base: int, pieces: range) -> list[range]:
    """Pieces without a hole between them."""
    if not pieces:
        return []
    here = slice(base + pieces.start, base + pieces.stop)
    breaks = np.flatnonzero(assembly.start[here][1:] != assembly.end[here][:-1]) + 1
    marks = [pieces.start, *(breaks + pieces.start).tolist(), pieces.stop]
    return [range(a, b) for a, b in zip(marks[:-1], marks[1:], strict=True)]


def _write_all(handle: int, chunk: memoryview, offset: int) -> None:
    while chunk:
        written = os.pwrite(handle, chunk, offset)
        chunk, offset = chunk[written:], offset + written
