"""Hypothesis strategies that build whole captures of both formats, oddities included, with what they hold.

A lenient reader reads each to its end; only those with ``cut_at`` end inside their last record.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hypothesis import strategies as st

from tests import blocks
from tests.frames import LINK_TYPES, frames, noise
from tests.oracles.reader import Packet

DEFAULT_SNAP_LENGTH = 262144
"""What libpcap takes for a snap length of 0, or one that is no positive 32-bit number."""

UINT16, UINT32, UINT64 = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)


@dataclass(frozen=True, slots=True)
class Capture:
    """A built capture: its octets, its packets in order, and for each the octets that libpcap would see.

    ``cut_at`` is the offset of the last record if the file ends inside it, else None.
    """

    data: bytes
    packets: tuple[Packet, ...]
    filter_lens: tuple[int, ...]
    cut_at: int | None = None


def _filter_len(caplen: int, snap_length: int, *, more: int = 0) -> int:
    limit = snap_length if 0 < snap_length < 2**31 else DEFAULT_SNAP_LENGTH
    return min(caplen, limit + more)


@st.composite
def _frame_lens(draw: st.DrawFn, caplen: int) -> int:
    """Original lengths: mostly right or longer, now and then shorter than what was captured, or absurd."""
    longer = caplen + draw(st.integers(0, 2000))
    shorter = draw(st.integers(0, caplen))
    return draw(st.sampled_from((caplen, caplen, caplen, longer, shorter, 0, 2**31, 2**32 - 1)))


_SNAP_LENGTHS = st.sampled_from((262144, 262144, 65535, 96, 60, 33, 1, 0, 2**31 - 1, 2**31, 2**32 - 1))

# pcap


@dataclass(frozen=True, slots=True)
class _PcapHeader:
    order: str
    magic: int
    version: tuple[int, int]
    snap_length: int
    link_word: int

    @property
    def units(self) -> int:
        return 10**9 if self.magic == blocks.PCAP_NANOSECONDS else 10**6

    def swaps(self, caplen: int, frame_len: int) -> bool:
        """Whether the record's two lengths stand in the old order (libpcap: ``LENGTHS_SWAPPED``)."""
        if self.version == (2, 3):  # libpcap swaps back what looks swapped; equal lengths look alike
            return caplen < frame_len
        return self.version in ((2, 0), (2, 1), (2, 2), (543, 0))


_PCAP_MAGICS = (blocks.PCAP_MICROSECONDS, blocks.PCAP_NANOSECONDS, blocks.PCAP_KUZNETZOV)
_PCAP_VERSIONS = ((2, 4),) * 5 + ((2, 0), (2, 1), (2, 2), (2, 3), (543, 0))
_LINK_WORD_BITS = (0,) * 6 + (0x24000000, 0x34000000, 0xF4000000, 0x30000000, 0x08000000, 0x2C000000)
"""FCS length in units of 16 bits (bits 28-31), R (27), and P (26), which says that the FCS length counts."""


@st.composite
def pcap_headers(draw: st.DrawFn, link_types: tuple[int, ...] = LINK_TYPES) -> tuple[_PcapHeader, bytes]:
    """A pcap file header, as values and as octets."""
    header = _PcapHeader(
        order=draw(st.sampled_from("<>")),
        magic=draw(st.sampled_from(_PCAP_MAGICS)),
        version=draw(st.sampled_from(_PCAP_VERSIONS)),
        snap_length=draw(_SNAP_LENGTHS),
        link_word=draw(st.sampled_from(link_types)) | draw(st.sampled_from(_LINK_WORD_BITS)),
    )
    octets = blocks.pcap_header(
        header.order,
        magic=header.magic,
        version=header.version,
        thiszone=draw(st.sampled_from((0, 0, -3600, 2**31 - 1))),
        sigfigs=draw(st.sampled_from((0, 0, 6, 2**32 - 1))),
        snap_length=header.snap_length,
        link_word=header.link_word,
    )
    return header, octets


def _sub_seconds(units: int) -> st.SearchStrategy[int]:
    """Fractions of a second, those of a whole second and more included."""
    ordinary = st.integers(0, units - 1)
    return st.one_of(ordinary, ordinary, st.sampled_from((units, 2**31, 2**32 - 1)))


def _seconds() -> st.SearchStrategy[int]:
    steady = st.integers(1_700_000_000, 1_700_000_100)
    return st.one_of(steady, steady, steady, st.sampled_from((0, 1, 2**31 - 1, 2**31, 2**32 - 1)), UINT32)


@st.composite
def _pcap_record(draw: st.DrawFn, header: _PcapHeader, at: int) -> tuple[bytes, Packet]:
    data = draw(frames(header.link_word & 0xFFFF))
    seconds, fraction = draw(_seconds()), draw(_sub_seconds(header.units))
    frame_len = draw(_frame_lens(len(data)))
    if header.version == (2, 3):  # there a wire length below the captured one can't be told from swapped ones
        frame_len = max(frame_len, len(data))
    interface_words = (
        draw(st.binary(min_size=8, max_size=8)) if header.magic == blocks.PCAP_KUZNETZOV else b""
    )
    record = blocks.pcap_record(
        header.order,
        data,
        seconds=seconds,
        fraction=fraction,
        frame_len=frame_len,
        swapped=header.swaps(len(data), frame_len) and (header.version != (2, 3) or draw(st.booleans())),
        kuznetzov=interface_words,
    )
    packet = Packet(
        interface=None,
        link_type=header.link_word & 0xFFFF,
        fcs_len=(header.link_word >> 28) * 2 if header.link_word & 0x04000000 else 0,
        ticks=seconds << 32 | fraction,
        time=seconds * 10**9 + fraction * (10**9 // header.units),
        frame_len=frame_len,
        data=data,
        record_offset=at,
    )
    return record, packet


@st.composite
def pcap_captures(draw: st.DrawFn, *, cut: bool = True, link_types: tuple[int, ...] = LINK_TYPES) -> Capture:
    """A pcap capture; with ``cut`` some end inside their last record."""
    header, octets = draw(pcap_headers(link_types))
    packets: list[Packet] = []
    last_at = len(octets)
    for _ in range(draw(st.integers(0, 8))):
        last_at = len(octets)
        record, packet = draw(_pcap_record(header, last_at))
        octets += record
        packets.append(packet)
    cut_at = None
    if cut and packets and draw(st.integers(0, 3)) == 0:
        octets = octets[: draw(st.integers(last_at + 1, len(octets) - 1))]
        packets.pop()
        cut_at = last_at
    is_kuznetzov = header.magic == blocks.PCAP_KUZNETZOV
    more = 14 if is_kuznetzov and header.link_word & 0xFFFF == 1 else 0
    lens = tuple(_filter_len(packet.caplen, header.snap_length, more=more) for packet in packets)
    return Capture(octets, tuple(packets), lens, cut_at)


# pcapng


@dataclass(frozen=True, slots=True)
class _Interface:
    number: int
    link_type: int
    snap_length: int
    units: int
    offset: int
    fcs_len: int

    def time(self, ticks: int) -> int | None:
        """Nanoseconds since 1970, rounded down; None where they do not fit 64 bits, offset or not."""
        counted = ticks * 10**9 // self.units
        nanoseconds = counted + self.offset * 10**9
        return nanoseconds if counted < 2**63 and -(2**63) <= nanoseconds < 2**63 else None

    def ticks_near(self, seconds: int) -> int:
        return min(max((seconds - self.offset) * self.units, 0), 2**64 - 1)


_COMMENT = (1, b"a comment")
_UNKNOWN_OPTIONS = st.lists(
    st.sampled_from(
        (
            _COMMENT,
            (1, b""),
            (1, "Grüße".encode()),
            (2988, struct.pack("<I", 99999) + b"text"),
            (32001, b"\x01\x02\x03"),
        )
    ),
    max_size=3,
)
UP_TO_NANOSECONDS = (None, None, None, 0, 3, 6, 9, 9, 9, 0x80, 0x83, 0x94, 0x9D)
ALL_RESOLUTIONS = (*UP_TO_NANOSECONDS, 10, 12, 19, 0xA0, 0xBF)
"""Values of ``if_tsresol``: 10 to the minus n, with the high bit 2 to the minus n; None: no such option."""


@dataclass(frozen=True, slots=True)
class Variety:
    """What the interfaces of a pcapng capture are drawn from."""

    resolutions: tuple[int | None, ...]
    link_types: tuple[int, ...]


EVERYTHING = Variety(ALL_RESOLUTIONS, LINK_TYPES)

_OFFSETS = (None, None, None, 3600, -7200, 1_084_443_000, -(2**31), 2**62)


def _units(resolution: int | None) -> int:
    """Ticks per second that a value of ``if_tsresol`` stands for."""
    if resolution is None:
        return 10**6
    return 1 << (resolution & 0x7F) if resolution & 0x80 else int(10**resolution)


@st.composite
def _interfaces(draw: st.DrawFn, order: str, number: int, variety: Variety) -> tuple[_Interface, bytes]:
    resolution, offset = draw(st.sampled_from(variety.resolutions)), draw(st.sampled_from(_OFFSETS))
    fcs_len = draw(st.sampled_from((None, None, 4, 0)))
    values = draw(_UNKNOWN_OPTIONS)
    if resolution is not None:
        values.append((9, bytes([resolution])))
    if offset is not None:
        values.append((14, struct.pack(order + "q", offset)))
    if fcs_len is not None:
        values.append((13, bytes([fcs_len])))
    values += draw(st.lists(st.sampled_from(((2, b"eth0"), (3, b"an interface"), (12, b"Linux")))))
    values = draw(st.permutations(values))
    link_type, snap_length = draw(st.sampled_from(variety.link_types)), draw(_SNAP_LENGTHS)
    octets = blocks.interface_description(
        order,
        link_type=link_type,
        reserved=draw(st.sampled_from((0, 0, 0xFFFF))),
        snap_length=snap_length,
        tail=blocks.options(order, values, end=draw(st.booleans())),
    )
    return _Interface(number, link_type, snap_length, _units(resolution), offset or 0, fcs_len or 0), octets


_RECORD_OPTIONS = ((2, b"\x01\0\0\0"), (3, b"\x02" + bytes(4)), (4, bytes(8)), (5, bytes(8)), (6, bytes(4)))


@st.composite
def _packet_block(
    draw: st.DrawFn, order: str, interfaces: list[_Interface], at: int
) -> tuple[bytes, Packet, int]:
    """A packet block of one of the three kinds, its packet, and the packet's ``filter_len``."""
    kind = draw(st.sampled_from((blocks.ENHANCED_PACKET,) * 5 + (blocks.SIMPLE_PACKET, blocks.PACKET)))
    index = 0 if kind == blocks.SIMPLE_PACKET else draw(st.integers(0, len(interfaces) - 1))
    interface = interfaces[index]
    data = draw(frames(interface.link_type))
    filler = draw(st.sampled_from((b"\0\0\0", b"\xff\xee\xdd")))
    frame_len, ticks = draw(_frame_lens(len(data))), None
    if kind == blocks.SIMPLE_PACKET:
        # the captured length is not written: it follows from snap length and wire length
        if interface.snap_length:
            data = data[: interface.snap_length]
        frame_len = max(frame_len, len(data)) if len(data) == interface.snap_length else len(data)
        octets = blocks.simple_packet(order, data, frame_len=frame_len, filler=filler)
    else:
        near = interface.ticks_near(draw(st.integers(1_700_000_000, 1_700_000_100)))
        jitter = draw(st.integers(0, min(interface.units, 2**64 - 1 - near)))
        ticks = draw(st.one_of(st.just(near + jitter), st.just(near + jitter), UINT64))
        values = draw(_UNKNOWN_OPTIONS)
        if kind == blocks.ENHANCED_PACKET:
            values += draw(st.lists(st.sampled_from(_RECORD_OPTIONS), max_size=2, unique=True))
        tail = blocks.options(order, values, end=draw(st.booleans()))
        write = blocks.enhanced_packet if kind == blocks.ENHANCED_PACKET else blocks.obsolete_packet
        octets = write(
            order, data, interface=index, ticks=ticks, frame_len=frame_len, filler=filler, tail=tail
        )
    packet = Packet(
        interface=interface.number,
        link_type=interface.link_type,
        fcs_len=interface.fcs_len,
        ticks=ticks,
        time=None if ticks is None else interface.time(ticks),
        frame_len=frame_len,
        data=data,
        record_offset=at,
    )
    return octets, packet, _filter_len(len(data), interface.snap_length)


@st.composite
def _other_block(draw: st.DrawFn, order: str) -> bytes:
    """A block that holds no packet: names, statistics, secrets, somebody's own, or an unknown one."""
    kind = draw(st.sampled_from(("names", "statistics", "secrets", "custom", "unknown")))
    if kind == "names":
        record = blocks.option(order, 1, b"\x0a\x00\x00\x01host.example\0")
        return blocks.block(order, blocks.NAME_RESOLUTION, record + blocks.option(order, 0, b""))
    if kind == "statistics":
        tail = blocks.options(order, [(4, struct.pack(order + "Q", 12))])
        return blocks.block(order, blocks.INTERFACE_STATISTICS, bytes(12) + tail)
    if kind == "secrets":
        secrets = b"CLIENT_RANDOM 00 00\n"
        body = struct.pack(order + "II", 0x544C534B, len(secrets)) + secrets
        return blocks.block(order, blocks.DECRYPTION_SECRETS, body)
    if kind == "custom":
        number = draw(st.sampled_from((blocks.CUSTOM, blocks.CUSTOM_NOT_COPIED)))
        return blocks.block(order, number, struct.pack(order + "I", 99999) + draw(noise(16)))
    number = draw(st.sampled_from((0x12345, 0x7FFFFFFF, 0x80000001, 0xFFFFFFFF)))
    return blocks.block(order, number, draw(noise(16)))


@st.composite
def _section(
    draw: st.DrawFn, at: int, first_interface: int, variety: Variety
) -> tuple[bytes, list[tuple[Packet, int]], int, int]:
    """One section: octets, packets with filter lengths, number of interfaces, offset of its last block."""
    order = draw(st.sampled_from("<>"))
    interfaces: list[_Interface] = []
    packets: list[tuple[Packet, int]] = []
    tail = blocks.options(order, [*draw(_UNKNOWN_OPTIONS), (4, b"pcap2arrow")])
    head_len = len(blocks.section_header(order, tail=tail))
    body, last_at = b"", at
    for _ in range(draw(st.integers(0, 9))):
        last_at = at + head_len + len(body)
        kind = draw(st.sampled_from(("packet",) * 5 + ("interface", "other")))
        if kind == "other":
            body += draw(_other_block(order))
        elif kind == "interface" or not interfaces:
            interface, octets = draw(_interfaces(order, first_interface + len(interfaces), variety))
            interfaces.append(interface)
            body += octets
        else:
            octets, packet, filter_len = draw(_packet_block(order, interfaces, last_at))
            packets.append((packet, filter_len))
            body += octets
    section_length = draw(st.sampled_from((blocks.UNKNOWN_SECTION_LENGTH, len(body), 0, 13, 2**40)))
    minor = draw(st.sampled_from((0, 0, 0, 2)))
    head = blocks.section_header(order, version=(1, minor), section_length=section_length, tail=tail)
    return head + body, packets, len(interfaces), last_at


@st.composite
def pcapng_captures(draw: st.DrawFn, *, cut: bool = True, variety: Variety = EVERYTHING) -> Capture:
    """A pcapng capture of one to three sections; with ``cut`` some end inside their last block."""
    octets, interface_count = b"", 0
    packets: list[tuple[Packet, int]] = []
    last_at = 0
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3)))):
        section, found, count, last_at = draw(_section(len(octets), interface_count, variety))
        octets += section
        packets += found
        interface_count += count
    cut_at = None
    if cut and last_at and draw(st.integers(0, 3)) == 0:
        octets = octets[: draw(st.integers(last_at + 1, len(octets) - 1))]
        packets = [(packet, limit) for packet, limit in packets if packet.record_offset < last_at]
        cut_at = last_at
    return Capture(
        octets, tuple(packet for packet, _ in packets), tuple(limit for _, limit in packets), cut_at
    )


def captures(*, cut: bool = True) -> st.SearchStrategy[Capture]:
    """A capture of either format."""
    return st.one_of(pcap_captures(cut=cut), pcapng_captures(cut=cut))
