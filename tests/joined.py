"""Captures joined into one, so that one run of a tool answers for all of them.

Packets of a link type whose snap length cuts none of their octets stand in one capture; those that libpcap cuts when
it reads stand in one for each snap length.
"""

from __future__ import annotations

import struct
import subprocess
from collections import defaultdict
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pcap2arrow import read_capture
from pcap2arrow.arrays import gather
from pcap2arrow.errors import Pcap2ArrowError
from pcap2arrow.savefile.batch import Records
from pcap2arrow.savefile.pcap import ByteOrder
from pcap2arrow.savefile.reader import Position, read_header, read_windows
from pcap2arrow.savefile.source import open_source
from tests.blocks import pcap_header

SNAP_LENGTH = 262_144
"""The most octets of a packet that libpcap takes, for most link types."""

_FILE_HEADER = len(pcap_header("<"))
_RECORD = np.dtype([("seconds", "u4"), ("fraction", "u4"), ("caplen", "u4"), ("frame_len", "u4")])


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """What the packets of one joined capture have in common."""

    link_type: int
    snap_length: int = SNAP_LENGTH
    byte_order: ByteOrder = "<"

    @property
    def is_swapped(self) -> bool:
        """Whether it was captured on a big-endian machine."""
        return self.byte_order == ">"


@dataclass(slots=True)
class Joined:
    """A capture of all packets of a kind; the time of each, in seconds, is its number."""

    kind: Kind
    path: Path
    frames: pa.LargeBinaryArray
    frame_len: NDArray[np.uint32]
    table: pl.DataFrame = field(init=False)
    _seen: pa.LargeBinaryArray = field(init=False)

    def __post_init__(self) -> None:
        """Write the capture, and convert it."""
        head = pcap_header(
            self.kind.byte_order, snap_length=self.kind.snap_length, link_word=self.kind.link_type
        )
        with self.path.open("wb") as file:
            file.write(head)
            file.write(_octets(self._records(self.frames, self.kind.byte_order)))
        table = pl.from_arrow(read_capture(self.path))
        assert isinstance(table, pl.DataFrame)
        assert len(table) == len(self)
        self.table = table
        self._seen = self._records(pc.binary_slice(self.frames, 0, self.kind.snap_length), "<")

    def __len__(self) -> int:
        return len(self.frames)

    def selected(self, chosen: NDArray[np.bool_]) -> bytes:
        """The records that ``tcpdump -w`` writes of the packets chosen: cut to the snap length, little-endian."""
        return _octets(self._seen.filter(pa.array(chosen)))

    def accepted(self, tcpdump: str, text: str, *words: str, seconds: float) -> bytes:
        """The records that tcpdump writes for an expression.  Raises CalledProcessError, TimeoutExpired."""
        command = [tcpdump, *words, "-r", str(self.path), "-w", "-", text]
        done = subprocess.run(command, capture_output=True, check=True, timeout=seconds)
        return done.stdout[_FILE_HEADER:]

    def numbers(self, records: bytes) -> NDArray[np.bool_]:
        """Which packets these records are of."""
        chosen, at = np.zeros(len(self), np.bool_), 0
        while at < len(records):
            number, _, caplen, _ = struct.unpack_from("<IIII", records, at)
            chosen[number] = True
            at += _RECORD.itemsize + caplen
        return chosen

    def packet(self, number: int) -> tuple[bytes, int]:
        """The octets of a packet that libpcap sees, and its length on the wire."""
        octets: bytes = self.frames[number].as_py()
        return octets[: self.kind.snap_length], int(self.frame_len[number])

    def _records(self, frames: pa.LargeBinaryArray, byte_order: ByteOrder) -> pa.LargeBinaryArray:
        headers = np.zeros(len(frames), _RECORD.newbyteorder(byte_order))
        headers["seconds"] = np.arange(len(frames))
        headers["caplen"] = pc.binary_length(frames).to_numpy()
        headers["frame_len"] = self.frame_len
        starts = np.arange(len(frames) + 1, dtype=np.int64) * _RECORD.itemsize
        buffers = [None, pa.py_buffer(starts), pa.py_buffer(headers)]
        column = pa.Array.from_buffers(pa.large_binary(), len(frames), buffers)
        return pc.binary_join_element_wise(column, frames, pa.scalar(b"", pa.large_binary()))


def _octets(records: pa.LargeBinaryArray) -> bytes:
    """All of them, one after another."""
    if not len(records):
        return b""
    _, offsets, octets = records.buffers()
    bounds = np.frombuffer(offsets, np.int64)[records.offset :]
    return bytes(memoryview(octets)[bounds[0] : bounds[len(records)]])


class _Piles:
    """Packets of each kind, as they are found."""

    def __init__(self, host_order: Container[int]) -> None:
        self.frames: dict[Kind, list[pa.LargeBinaryArray]] = defaultdict(list)
        self.frame_len: dict[Kind, list[NDArray[np.uint32]]] = defaultdict(list)
        self.left_out = 0
        self._host_order = host_order

    def add(self, path: Path) -> None:
        """The packets of a capture; of a damaged one, those that can be read, and none of what is no capture."""
        try:
            with open_source(str(path)) as source:
                header = read_header(source)
                for window, after in read_windows(source, header, Position(0), stop=source.size):
                    self._add(window.records, after.section.order if header is None else header.order)
        except Pcap2ArrowError:
            return

    def _add(self, records: Records, byte_order: ByteOrder) -> None:
        self.left_out += int((records.caplen > SNAP_LENGTH).sum())
        limit = np.where(records.filter_len < records.caplen, records.filter_len, SNAP_LENGTH)
        limit[records.caplen > SNAP_LENGTH] = 0
        kinds = np.stack([records.link_type, limit], axis=1)
        for link_type, snap_length in np.unique(kinds, axis=0).tolist():
            if snap_length:
                rows = records.rows((kinds == (link_type, snap_length)).all(axis=1))
                kind = Kind(link_type, snap_length, byte_order if link_type in self._host_order else "<")
                self.frames[kind].append(gather([rows.data], 0, rows.packet, rows.caplen.astype(np.int64)))
                self.frame_len[kind].append(rows.frame_len)


def join(paths: Iterable[Path], folder: Path, *, host_order: Container[int] = ()) -> tuple[list[Joined], int]:
    """The packets of captures joined, and how many are left out, being longer than libpcap takes.

    ``host_order`` are link types whose packets depend on the byte order of their capture.
    """
    piles = _Piles(host_order)
    for path in paths:
        piles.add(path)
    captures = [
        Joined(
            kind, folder / f"{number}.pcap", pa.concat_arrays(frames), np.concatenate(piles.frame_len[kind])
        )
        for number, (kind, frames) in enumerate(sorted(piles.frames.items()))
    ]
    return captures, piles.left_out
