"""Streams as files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcap2arrow.errors import ExportError
from queries.streams.assembly import Assembly, octets
from queries.streams.packets import Packets

HASHES = ("md5", "sha256")
"""Hashes of streams that can be asked for."""

Content = list[tuple[int, memoryview]]
"""Octets of a stream, with the place of each run."""

_BATCH = 64 << 20  # octets gathered at once
_MOST_STREAMS = 1 << 16
_MOST_ZEROS = 1 << 30
_MOST_FILLED = 16 << 20
_ZEROS = bytes(1 << 20)


def write_files(
    packets: Packets,
    assembly: Assembly,
    streams: NDArray[np.int64],
    names: Mapping[int, str],
    folder: Path,
) -> None:
    """Write streams, ascending, each to the file of its name in a folder; holes are left to the file system.

    Raises ExportError where a file can't be written, or is there already.
    """
    folders: set[str] = set()
    for stream, content in contents(packets, assembly, streams):
        name = names[stream]
        path = folder / name
        if "/" in name and (parent := str(path.parent)) not in folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            folders.add(parent)
        _write(path, content)


def digests(packets: Packets, assembly: Assembly, streams: NDArray[np.int64]) -> dict[str, list[str | None]]:
    """MD5 and SHA-256 of streams, by number; of others, and of those with gigabytes of holes, None."""
    found: dict[str, list[str | None]] = {kind: [None] * len(assembly.size) for kind in HASHES}
    for stream, content in contents(packets, assembly, np.sort(streams)):
        if assembly.size[stream] - assembly.octets[stream] > _MOST_ZEROS:
            continue
        for kind in HASHES:
            found[kind][stream] = _digest(kind, content)
    return found


def _digest(kind: str, content: Content) -> str:
    state, at = hashlib.new(kind, usedforsecurity=False), 0
    for start, run in content:
        for _ in range(at, start, len(_ZEROS)):
            state.update(_ZEROS[: start - at])
            at = min(at + len(_ZEROS), start)
        state.update(run)
        at = start + len(run)
    return state.hexdigest()


def contents(
    packets: Packets, assembly: Assembly, streams: NDArray[np.int64]
) -> Iterator[tuple[int, Content]]:
    """Streams, ascending, each with its runs of octets without a hole and where these start."""
    held = assembly.octets
    at = 0
    while at < len(streams):
        stop = _batch_end(held, streams, at)
        first, last = assembly.bounds[streams[at]], assembly.bounds[streams[stop - 1] + 1]
        data = memoryview(octets(packets, assembly, slice(first, last)))
        places = np.append(0, np.cumsum((assembly.end - assembly.start)[first:last]))
        for stream in streams[at:stop].tolist():
            yield (
                stream,
                _runs(
                    assembly,
                    int(assembly.bounds[stream]),
                    int(assembly.bounds[stream + 1]),
                    int(first),
                    places,
                    data,
                ),
            )
        at = stop


def filled(content: Content) -> tuple[memoryview, str | None]:
    """A stream's octets with zeros for what is missing, and what is wrong with them.

    They end where too many are missing: holes of terabytes cost a sender nothing.
    """
    if len(content) == 1 and content[0][0] == 0:
        return content[0][1], None
    missing = at = 0
    parts: list[bytes | memoryview] = []
    for start, run in content:
        missing += start - at
        if missing > _MOST_FILLED:
            return memoryview(b"".join(parts)), f"offset {at}: more than {_MOST_FILLED} octets are missing"
        parts += [bytes(start - at), run]
        at = start + len(run)
    return memoryview(b"".join(parts)), None


def _batch_end(held: NDArray[np.int64], streams: NDArray[np.int64], at: int) -> int:
    """Streams that make up about a batch."""
    return at + max(int(np.searchsorted(np.cumsum(held[streams[at : at + _MOST_STREAMS]]), _BATCH)), 1)


def _runs(
    assembly: Assembly, first: int, stop: int, base: int, places: NDArray[np.int64], data: memoryview
) -> Content:
    """The pieces from ``first`` to ``stop``, those put together that follow one another."""
    if first == stop:
        return []
    starts, ends = assembly.start[first:stop], assembly.end[first:stop]
    marks = [0, *(np.flatnonzero(starts[1:] != ends[:-1]) + 1).tolist(), stop - first]
    return [
        (int(starts[a]), data[places[first - base + a] : places[first - base + b]])
        for a, b in pairwise(marks)
    ]


def _write(path: Path, content: Content) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            for start, run in content:
                _write_all(handle, run, start)
        finally:
            os.close(handle)
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror}") from error


def _write_all(handle: int, run: memoryview, offset: int) -> None:
    while run:
        written = os.pwrite(handle, run, offset)
        run, offset = run[written:], offset + written
