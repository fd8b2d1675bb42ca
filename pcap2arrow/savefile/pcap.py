"""The pcap format: its file header, and records as columns.

Source: draft-ietf-opsawg-pcap; for what the draft leaves open, libpcap 1.10.3 (``sf-pcap.c``).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pcap2arrow.errors import FormatError
from pcap2arrow.savefile.batch import Gap, Records
from pcap2arrow.savefile.walk import Octets, Positions, words

ByteOrder = Literal["<", ">"]
HEADER_LENGTH = 24
MAX_SNAP_LENGTH = 262_144
_LARGE_SNAP_LENGTHS = {231: 128 << 20, 279: 8 << 20} | dict.fromkeys((189, 220, 249, 266), 128 << 20)

_MAGICS = {0xA1B2C3D4: (10**6, 16), 0xA1B23C4D: (10**9, 16), 0xA1B2CD34: (10**6, 24)}
"""Magic number → (ticks per second, octets of a record header); the last is Kuznetzov's variant."""
MAGIC_OCTETS = {struct.pack(order + "I", magic): order for magic in _MAGICS for order in "<>"}

_VERSIONS = {(2, 0), (2, 1), (2, 2), (2, 3), (2, 4), (543, 0)}
_EXPECTED_VERSION = "version 2.0 to 2.4, or 543.0"
_TWO_LENGTHS = {order: struct.Struct(order + "II") for order in "<>"}
_LIKE = {
    "<": (rb"(?s:...[\0-\x3b]...\0...\0)", 2),
    ">": (rb"(?s:..[\0-\x3b]...\0...\0)", 0),
}
"""What follows the more significant half of a record's seconds, and where in the record that half stands."""

_FCS_PRESENT = 1 << 26
_RESERVED_BITS = 0x03FF0000
_ETHERNET_HEADER = 14


def max_caplen(link_type: int) -> int:
    """Most octets that libpcap believes a packet of that link type can have (``max_snaplen_for_dlt``)."""
    return _LARGE_SNAP_LENGTHS.get(link_type, MAX_SNAP_LENGTH)


def effective_snap_length(snap_length: int, link_type: int) -> int:
    """Snap length as libpcap takes it: 0 and what does not fit a signed int stand for the most of the link type."""
    return snap_length if 0 < snap_length < 1 << 31 else max_caplen(link_type)


@dataclass(frozen=True)
class PcapHeader:
    """File header of a pcap, and the framing of its records.

    ``ticks`` per second is 10⁶ or 10⁹; ``record_header`` 16 octets, or 24 in Kuznetzov's variant; ``link_word`` the
    whole word, of which ``link_type`` is the low 16 bits.
    """

    order: ByteOrder
    ticks: int
    record_header: int
    version: tuple[int, int]
    snap_length: int
    link_word: int

    @property
    def link_type(self) -> int:
        """LINKTYPE_ value."""
        return self.link_word & 0xFFFF

    @property
    def fcs_len(self) -> int:
        """Octets of FCS at the end of every frame; 0 unless the P bit says that the field counts."""
        return (self.link_word >> 28) * 2 if self.link_word & _FCS_PRESENT else 0

    @property
    def fcs_present(self) -> bool:
        """The P bit of the link-type word."""
        return bool(self.link_word & _FCS_PRESENT)

    @property
    def seen_snap_length(self) -> int:
        """What libpcap cuts packets to; of Ethernet in Kuznetzov's variant it takes the link header to be left out."""
        length = effective_snap_length(self.snap_length, self.link_type)
        return length + _ETHERNET_HEADER if self.record_header == 24 and self.link_type == 1 else length

    @property
    def gap(self) -> Gap:
        """The header as part of its capture, with what libpcap objects to though it can be read."""
        if self.version not in _VERSIONS:
            found = f"{self.version[0]}.{self.version[1]}"
            return Gap(0, HEADER_LENGTH, "header", None, _EXPECTED_VERSION, found)
        if self.link_word & _RESERVED_BITS:
            expected, found = "zero in the reserved bits of the link-type word", f"{self.link_word:#010x}"
            return Gap(0, HEADER_LENGTH, "header", None, expected, found)
        return Gap(0, HEADER_LENGTH, "header")

    @cached_property
    def swapped(self) -> Literal["never", "always", "if greater"]:
        """Whether captured and original length change places (``sf-pcap.c``, ``lengths_swapped``)."""
        if self.version == (2, 3):
            return "if greater"
        return "never" if self.version[0] == 2 and self.version[1] >= 4 else "always"

    @cached_property
    def min_length(self) -> int:
        """Octets of a record without packet."""
        return self.record_header

    @cached_property
    def length_at(self) -> int:
        """Where in its header a record's captured length stands; of version 2.3, where it mostly does."""
        return 12 if self.swapped == "always" else 8

    @property
    def length_more(self) -> int:
        """Octets of a record beside its packet."""
        return self.record_header

    @cached_property
    def _max_caplen(self) -> int:
        return max_caplen(self.link_type)

    @cached_property
    def _most_significant(self) -> int:
        return 3 if self.order == "<" else 0

    def _caplen(self, data: Octets, at: Positions) -> NDArray[np.int64]:
        if self.swapped == "never":
            return words(data, at + 8, self.order)
        if self.swapped == "always":
            return words(data, at + 12, self.order)
        return np.minimum(words(data, at + 8, self.order), words(data, at + 12, self.order))

    def lengths(self, data: Octets, at: Positions) -> Positions:
        """Length of the record at each position, 0 where its captured length is more than libpcap believes."""
        caplen = self._caplen(data, at)
        return np.where(caplen <= self._max_caplen, caplen + self.record_header, 0)

    def length(self, data: Octets, at: int) -> int:
        """The same for one position."""
        first, second = _TWO_LENGTHS[self.order].unpack_from(data.data, at + 8)
        caplen = (
            first if self.swapped == "never" else second if self.swapped == "always" else min(first, second)
        )
        return caplen + self.record_header if caplen <= self._max_caplen else 0

    def plausible(self, data: Octets, at: Positions) -> NDArray[np.bool_]:
        """Whether a record header of an ordinary packet may stand there: all fields in their usual ranges."""
        top = self._most_significant
        index = np.flatnonzero(data[at + (top + 4)] <= (0x3B if self.ticks == 10**9 else 0))
        index = index[data[at[index] + (top + 8)] == 0]
        index = index[data[at[index] + (top + 12)] == 0]
        here = at[index]
        caplen, frame_len = words(data, here + 8, self.order), words(data, here + 12, self.order)
        if self.swapped != "never":
            caplen, frame_len = np.minimum(caplen, frame_len), np.maximum(caplen, frame_len)
        good = (caplen > 0) & (caplen <= self._max_caplen) & (caplen <= frame_len)
        good &= words(data, here + 4, self.order) < self.ticks
        result = np.zeros(len(at), dtype=np.bool_)
        result[index[good]] = True
        return result

    def likeness(self, data: Octets, at: int) -> tuple[re.Pattern[bytes], int]:
        """A pattern for records of the same eighteen hours, and how far in them it begins."""
        pattern, skip = _LIKE[self.order]
        seconds = re.escape(data[at + skip : at + skip + 2].tobytes())
        return re.compile(seconds + pattern), skip

    def records(self, data: Octets, start: Positions) -> Records:
        """The records that start at those positions, as columns."""
        words = np.ndarray((len(data) - 15,), dtype="V16", buffer=data, strides=(1,))[start]
        fields = words.view(self.order + "u4").reshape(-1, 4)
        seconds, fraction, first, second = (fields[:, k].astype(np.int64) for k in range(4))
        swapped = (
            np.full(len(start), self.swapped == "always") if self.swapped != "if greater" else first > second
        )
        caplen = np.where(swapped, second, first) if self.swapped != "never" else first
        frame_len = np.where(swapped, first, second) if self.swapped != "never" else second
        verbatim = self.record_header != 16
        return Records(
            data=data,
            start=start,
            packet=start + self.record_header,
            length=caplen + self.record_header,
            caplen=caplen.astype(np.uint32),
            frame_len=frame_len.astype(np.uint32),
            filter_len=np.minimum(caplen, self.seen_snap_length).astype(np.uint32),
            link_type=np.full(len(start), self.link_type, dtype=np.uint16),
            fcs_len=np.full(len(start), self.fcs_len, dtype=np.uint8),
            interface=None,
            time=seconds * 1_000_000_000 + fraction * (1_000_000_000 // self.ticks),
            time_valid=np.ones(len(start), dtype=np.bool_),
            time_raw=(seconds << 32 | fraction).view(np.uint64),
            time_raw_needed=fraction >= self.ticks,
            verbatim=np.full(len(start), verbatim) if self.swapped != "if greater" else swapped | verbatim,
        )

    def refusal(self, data: Octets, at: int) -> tuple[str, str]:
        """Expected and found, for a record header at ``at`` that :meth:`lengths` refuses."""
        first, second = _TWO_LENGTHS[self.order].unpack_from(data.data, at + 8)
        caplen = (
            first if self.swapped == "never" else second if self.swapped == "always" else min(first, second)
        )
        return f"a captured length of at most {self._max_caplen}", f"{caplen}"


def parse_header(octets: bytes, *, path: str) -> PcapHeader:
    """Read a file header from the first 24 octets of a pcap.

    Raises FormatError where the file is too short or has another magic number or major version.  A later minor
    version is read as 2.4, as Wireshark reads it; libpcap refuses it, and ``gap`` says so.
    """
    order = MAGIC_OCTETS.get(octets[:4])
    if order is None:
        raise FormatError(path, 0, expected="a pcap magic number", found=octets[:4].hex(" ") or "the end")
    if len(octets) < HEADER_LENGTH:
        raise FormatError(
            path,
            len(octets),
            expected=f"a file header of {HEADER_LENGTH} octets",
            found=f"the end after {len(octets)}",
        )
    magic, major, minor, _, _, snap_length, link_word = struct.unpack(
        f"{order}IHHIIII", octets[:HEADER_LENGTH]
    )
    if major != 2 and (major, minor) not in _VERSIONS:
        raise FormatError(path, 4, expected=_EXPECTED_VERSION, found=f"{major}.{minor}")
    ticks, record_header = _MAGICS[magic]
    byte_order: ByteOrder = "<" if order == "<" else ">"
    return PcapHeader(byte_order, ticks, record_header, (major, minor), snap_length, link_word)
