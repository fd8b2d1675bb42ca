"""Streams as files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pcap2arrow.errors import ExportError
from queries.streams.assembly import Assembly, octets
from queries.streams.packets import Packets
from queries.streams.rules import Gaps

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
    gaps: Gaps = "zero",
) -> None:
    """Write streams, ascending, each to the file of its name in a folder; holes are left to the file system.

    Where ``gaps`` split, each run of octets has a file: that which begins the stream ``NAME``, others ``NAME@OFFSET``.
    Raises ExportError where a file can't be written, or is there already.
    """
    with StreamFiles(folder, gaps) as files:
        for stream, content in contents(packets, assembly, streams):
            files.write(names[stream], content)


@dataclass(slots=True)
class Begun:
    """A stream of which some octets were written: the place behind the last one, its file, and how much is in that."""

    end: int = 0
    file: str = ""
    size: int = 0


class StreamFiles:
    """Files of streams in a folder, as ``gaps`` say; a context in which they are written, see :func:`write_files`."""

    def __init__(self, folder: Path, gaps: Gaps) -> None:
        self._folder = folder
        self._gaps = gaps
        self._folders: set[str] = set()

    def __enter__(self) -> StreamFiles:
        self._opened = ExitStack()
        self._where = self._opened.enter_context(opened_folder(self._folder))
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    def write(self, name: str, content: Content, begun: Begun | None = None) -> None:
        """Write a stream, or what follows where it has ``begun``: that changes then."""
        parent = name.rpartition("/")[0]
        if parent and parent not in self._folders:
            (self._folder / parent).mkdir(parents=True, exist_ok=True)
            self._folders.add(parent)
        known = begun or Begun()
        try:
            for file, runs in _laid_out(name, content, self._gaps, known):
                _write(file, runs, self._where, is_new=file != known.file)
                known.file = file
        except OSError as error:
            raise ExportError(f"{self._folder / name}: {error.strerror}") from error


@contextmanager
def opened_folder(folder: Path | str) -> Iterator[int]:
    """A folder that files are written in, which is found only once.  Raises ExportError where there is none."""
    try:
        where = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ExportError(f"{folder}: {error.strerror}") from error
    try:
        yield where
    finally:
        os.close(where)


def digests(packets: Packets, assembly: Assembly, streams: NDArray[np.int64]) -> dict[str, list[str | None]]:
    """MD5 and SHA-256 of streams, by number; of others, and of those with gigabytes of holes, None."""
    found: dict[str, list[str | None]] = {kind: [None] * len(assembly.size) for kind in HASHES}
    missing = assembly.size - assembly.octets
    for stream, content in contents(packets, assembly, np.sort(streams)):
        if missing[stream] > _MOST_ZEROS:
            continue
        digest = Digest()
        digest.add(content)
        for kind, value in zip(HASHES, digest.values(), strict=True):
            found[kind][stream] = value
    return found


class Digest:
    """Hashes of a stream whose octets come in their order, with zeros for what is missing."""

    def __init__(self, kinds: Sequence[str] = HASHES) -> None:
        self._states = [hashlib.new(kind, usedforsecurity=False) for kind in kinds]
        self._end = self._missing = 0

    def add(self, content: Content) -> None:
        """Add octets that lie behind those before."""
        for start, run in content:
            self._missing += start - self._end
            if self._missing > _MOST_ZEROS:
                return
            for state in self._states:
                for at in range(self._end, start, len(_ZEROS)):
                    state.update(_ZEROS[: start - at])
                state.update(run)
            self._end = start + len(run)

    def values(self) -> list[str | None]:
        """Each as hexadecimal digits, None where gigabytes are missing."""
        return [None if self._missing > _MOST_ZEROS else state.hexdigest() for state in self._states]


def contents(
    packets: Packets, assembly: Assembly, streams: NDArray[np.int64]
) -> Iterator[tuple[int, Content]]:
    """Streams, ascending, each with its runs of octets without a hole and where these start."""
    for batch in _batches(assembly, streams):
        runs, data = _runs(packets, assembly, batch)
        at = 0
        stream, place, start, end = (each.tolist() for each in runs)
        for each in batch.tolist():
            stop = at
            while stop < len(stream) and stream[stop] == each:
                stop += 1
            yield each, [(place[k], data[start[k] : end[k]]) for k in range(at, stop)]
            at = stop


def rows(
    packets: Packets, assembly: Assembly, streams: NDArray[np.int64], most: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], pa.LargeBinaryArray]]:
    """The octets of streams, ascending, in batches of at most so many: streams, offsets, octets of runs without a hole.

    A long run is in several rows.
    """
    for batch in _batches(assembly, streams):
        (stream, place, start, end), data = _runs(packets, assembly, batch)
        parts = -(-(end - start) // most)
        run = np.repeat(np.arange(len(stream)), parts)
        part = np.arange(len(run)) - np.repeat(np.cumsum(parts) - parts, parts)
        begin = start[run] + part * most
        bounds = np.append(begin, end[-1:])
        group = begin // most
        marks = [0, *(np.flatnonzero(group[1:] != group[:-1]) + 1).tolist(), len(run)]
        for a, b in pairwise(marks):
            if a < b:
                offsets = pa.py_buffer(bounds[a : b + 1] - bounds[a])
                octets_ = pa.py_buffer(data[bounds[a] : bounds[b]])
                array = pa.Array.from_buffers(pa.large_binary(), b - a, [None, offsets, octets_])
                yield stream[run[a:b]], place[run[a:b]] + part[a:b] * most, array


def _batches(assembly: Assembly, streams: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    held, at = assembly.octets, 0
    while at < len(streams):
        stop = _batch_end(held, streams, at)
        yield streams[at:stop]
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


def _runs(
    packets: Packets, assembly: Assembly, streams: NDArray[np.int64]
) -> tuple[tuple[NDArray[np.int64], ...], memoryview]:
    """Of streams, ascending: runs (stream, place, start in the octets, end there), and their octets together."""
    first, stop = assembly.bounds[streams[0]], assembly.bounds[streams[-1] + 1]
    stream, start, end = assembly.stream[first:stop], assembly.start[first:stop], assembly.end[first:stop]
    places = np.append(0, np.cumsum(end - start))
    opens = np.ones(len(stream), np.bool_)
    opens[1:] = (stream[1:] != stream[:-1]) | (start[1:] != end[:-1])
    firsts = np.flatnonzero(opens)
    runs = stream[firsts], start[firsts], places[firsts], places[np.append(firsts[1:], len(stream))]
    chosen = np.isin(runs[0], streams)
    return tuple(each[chosen] for each in runs), memoryview(octets(packets, assembly, slice(first, stop)))


def _batch_end(held: NDArray[np.int64], streams: NDArray[np.int64], at: int) -> int:
    """Streams that make up about a batch."""
    return at + max(int(np.searchsorted(np.cumsum(held[streams[at : at + _MOST_STREAMS]]), _BATCH)), 1)


def _laid_out(name: str, content: Content, gaps: Gaps, begun: Begun) -> Iterator[tuple[str, Content]]:
    """The files of a stream, or of what follows where it has begun, each with what it has where."""
    if gaps == "split":
        for place, run in content:
            goes_on = begun.file and place == begun.end
            file = begun.file if goes_on else f"{name}@{place}" if place else name
            size = begun.size if goes_on else 0
            begun.end, begun.size = place + len(run), size + len(run)
            yield file, [(size, run)]
        return
    if gaps == "zero":
        yield name, content
        return
    parts: list[memoryview] = []
    for place, run in content:
        if gaps == "mark" and place > begun.end:
            parts.append(memoryview(f"[{place - begun.end} octets missing]".encode()))
        parts.append(run)
        begun.end = place + len(run)
    places = list(accumulate((len(part) for part in parts), initial=begun.size))
    begun.size = places[-1]
    yield name, list(zip(places, parts, strict=False))


def _write(name: str, content: Content, where: int, *, is_new: bool) -> None:
    flags = os.O_WRONLY | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if is_new else 0)
    handle = os.open(name, flags, 0o666, dir_fd=where)
    try:
        for start, run in content:
            _write_all(handle, run, start)
    finally:
        os.close(handle)


def _write_all(handle: int, run: memoryview, offset: int) -> None:
    while run:
        written = os.pwrite(handle, run, offset)
        run, offset = run[written:], offset + written
