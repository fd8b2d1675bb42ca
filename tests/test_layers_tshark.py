"""The decoder against tshark, cell by cell: on the shared corpus, on built frames, on frames cut anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pcap2arrow.layers import Chunk, Decoded, decode
from pcap2arrow.layers.link import LAYERS
from pcap2arrow.numbers import Tunnel
from tests.oracles import frames
from tests.oracles.chunks import chunk_of
from tests.oracles.reader import Packet, whole_packets
from tests.oracles.tshark import NETWORK_TYPES, Column, Dissected, dissect

Mask = NDArray[np.bool_]

LEAST_CAPTURES = 300
LEAST_COLUMNS = 40
GREATEST_EXCUSED_SHARE = 0.001
HEADERS = """
eth llc vlan ieee8021ad mpls pppoes pppoed ppp chdlc null raw sll radiotap wlan arp ip ipv6
ipv6.hopopts ipv6.routing ipv6.fraghdr ipv6.dstopts ah tcp udp sctp icmp icmpv6 igmp gre vxlan geneve gtp l2tp
"""
"""What the corpus must hold, in tshark's words; built frames add the link types that it lacks."""


@dataclass(frozen=True, slots=True)
class Cells:
    """One column of all packets: what the decoder and tshark say, and what tells an allowed difference."""

    column: str
    ours: Column
    theirs: Column
    irregular: Mask
    cut: Mask
    ip_length: NDArray[np.uint64]
    options: Mask
    wlan_type: NDArray[np.uint64]
    protocols: Callable[[str], Mask]

    def differ(self) -> Mask:
        both = self.ours.valid & self.theirs.valid
        found: Mask = both & (self.ours.values != self.theirs.values)
        return found | self.only_ours | self.only_theirs

    @property
    def only_ours(self) -> Mask:
        return self.ours.valid & ~self.theirs.valid

    @property
    def only_theirs(self) -> Mask:
        return self.theirs.valid & ~self.ours.valid


ALLOWED: dict[str, Callable[[Cells], Mask]] = {
    "tshark stops in a faulty header": lambda c: c.only_ours & c.irregular,
    "tshark believes a faulty header": lambda c: c.only_theirs & c.irregular,
    "length of segmentation offload": lambda c: (c.ip_length == 0) & (c.column == "ip_len"),
    "tshark stops in IPv4 options": lambda c: c.only_ours & c.options & c.protocols(r"(^|:)ip$"),
    "frame around the Ethernet frame": lambda c: c.protocols(r"^eth:(cfp:)?eth\b"),
    "IGMP of PIM version 1": lambda c: c.protocols(r"igmp:pim") & (c.column == "igmp_type"),
    "other protocols over Cisco HDLC": lambda c: c.protocols("^chdlc:data$") & (c.column == "network_type"),
    "source route": lambda c: c.options & (c.column == "ip_dst"),
    "sender of CF-End": lambda c: c.only_ours & (c.wlan_type == 0x1E) & (c.column == "wlan_ta"),
    "tunnel with a cut header": lambda c: c.only_theirs & c.cut & (c.column == "tunnel"),
    "tunnel with something else in it": lambda c: (
        c.only_ours & c.protocols(r"(:udp|ipv6:data)$") & (c.column == "tunnel")
    ),
}


@dataclass(slots=True)
class Comparison:
    """Result of comparing: cells compared, cells excused by reason, and one line for each other
    difference."""

    packets: int = 0
    columns: int = 0
    excused: dict[str, int] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        cells, excused = self.packets * self.columns, sum(self.excused.values())
        head = f"{self.packets} packets, {self.columns} columns: {excused} of {cells} cells excused"
        return "\n".join([head, *(f"  {count:6} {reason}" for reason, count in self.excused.items())])


def compare(
    packets: Sequence[Packet], names: Sequence[str], chunk: Chunk, dissected: Dissected
) -> Comparison:
    """Compare all columns of all packets.

    Allowed differences, and why they are (:data:`ALLOWED` has the rules):

    - tshark stops in a faulty header: it shows fields of a cut or malformed header only as far as it got
    before it
      noticed, which is often before the field that is at fault (all of Ethernet, the addresses of ARP).
      Ours are there up to the cut, and ``irregular`` marks the packet.
    - tshark believes a faulty header: it goes on after a wrong version nibble or radiotap version, and
    after a
      fragment header in a fragment; it shows the version nibble whatever it is, and takes some NULL headers
      for HDLC. Ours are null behind a fault, and ``irregular`` marks the packet.
    - length of segmentation offload: where IP's length is 0, tshark shows the length that it assumes instead.
    - tshark stops in IPv4 options: it shows nothing behind malformed options; their length is still right.
    - frame around the Ethernet frame: it takes Cisco's ISL and FabricPath, whose addresses are not those of
    an
      Ethernet frame, for a header of their own; libpcap does not.
    - IGMP of PIM version 1: it shows the type under another name, split in two fields.
    - other protocols over Cisco HDLC: it knows no ARP there; ours gives the number as it stands in the
    header.
    - source route: it shows the last hop of a source-route option as destination, not what stands in the
    header.
    - sender of CF-End: it calls the second address BSSID only.
    - tunnel with a cut header: it needs less than the whole tunnel header to name a tunnel.
    - tunnel with something else in it: it does not name a tunnel whose content it can't make out, nor one
    behind
      a UDP length of 0 (segmentation offload) over IPv4.
    """
    decoded = decode(chunk)
    version, ip_length, header_len, wlan_type = (
        _ours(decoded, name, len(packets)).values
        for name in ("ip_version", "ip_len", "ip_hdr_len", "wlan_fc_type_subtype")
    )
    irregular, cut = decoded.columns["irregular"].values, chunk.caplen < chunk.frame_len
    theirs = _theirs(dissected.columns, version, whole=~irregular & ~cut)
    comparison = Comparison(packets=len(packets), columns=len(theirs))
    for name, expected in theirs.items():
        cells = Cells(
            column=name,
            ours=_as_shown(
                _checksum(chunk, decoded, name) or _ours(decoded, name, len(packets)), name, expected
            ),
            theirs=expected,
            irregular=irregular,
            cut=cut,
            ip_length=ip_length,
            options=(version == 4) & (header_len > 20),
            wlan_type=wlan_type,
            protocols=lambda pattern: dissected.protocols.str.contains(pattern).to_numpy(),
        )
        _judge(cells, comparison, names, dissected.protocols)
    return comparison


def _judge(cells: Cells, comparison: Comparison, names: Sequence[str], protocols: pl.Series) -> None:
    left = cells.differ()
    if not left.any():
        return
    for reason, rule in ALLOWED.items():
        excused = left & rule(cells)
        if excused.any():
            comparison.excused[reason] = comparison.excused.get(reason, 0) + int(excused.sum())
            left &= ~excused
    for row in np.flatnonzero(left)[:20]:
        ours, theirs = (
            column.values[row] if column.valid[row] else None for column in (cells.ours, cells.theirs)
        )
        comparison.differences.append(
            f"{cells.column}: {ours}, tshark {theirs}: {names[row]} {row} {protocols[int(row)]}"
        )


def _ours(decoded: Decoded, name: str, count: int) -> Column:
    column = decoded.columns.get(name)
    if column is None:
        return Column(np.zeros(count, np.uint64), np.zeros(count, np.bool_))
    valid = np.ones(count, np.bool_) if column.valid is None else column.valid
    return Column(column.values.astype(np.uint64), valid)


def _as_shown(ours: Column, name: str, theirs: Column) -> Column:
    """Ours, as far as tshark shows such a column."""
    if name == "network_type":
        values = np.where(ours.values == frames.RARP, frames.ARP, ours.values)
        return Column(values, np.isin(values, list(NETWORK_TYPES.values())))
    if name in ("l4_proto", "payload_len") or name.endswith("_checksum"):
        return Column(ours.values, ours.valid & theirs.valid)
    return ours


CHECKSUMS = {
    "ip_checksum": ("network_offset", 10, ">u2"),
    "tcp_checksum": ("transport_offset", 16, ">u2"),
    "udp_checksum": ("transport_offset", 6, ">u2"),
    "sctp_checksum": ("transport_offset", 8, ">u4"),
    "icmp_checksum": ("transport_offset", 2, ">u2"),
    "igmp_checksum": ("transport_offset", 2, ">u2"),
}
"""Checksums show that the offsets are right: where from which offset on each stands."""


def _checksum(chunk: Chunk, decoded: Decoded, name: str) -> Column | None:
    """What stands where the checksum should, seen from the offset that was decoded."""
    if name not in CHECKSUMS:
        return None
    offset_name, place, kind = CHECKSUMS[name]
    offset = _ours(decoded, offset_name, chunk.start.size)
    at = np.minimum(chunk.start + offset.values.astype(np.int64) + place, chunk.data.size - 4)
    word = np.zeros(at.size, np.uint64)
    for octet in range(np.dtype(kind).itemsize):
        word = word << np.uint64(8) | chunk.data[at + octet]
    return Column(word, offset.valid)


def _theirs(shown: dict[str, Column], version: NDArray[np.uint64], *, whole: Mask) -> dict[str, Column]:
    """Columns that tshark shows, completed from what it shows elsewhere.

    ``whole`` are the packets of whose TCP payload all octets are there.
    """
    theirs = dict(shown)
    ipv6 = theirs["ipv6_flow"].valid & (version == 6)
    header_len = theirs["ip_hdr_len"]
    theirs["ip_hdr_len"] = Column(np.where(ipv6, np.uint64(40), header_len.values), header_len.valid | ipv6)
    payload_len = theirs.pop("tcp_payload_len")
    theirs["payload_len"] = Column(payload_len.values, payload_len.valid & whole)
    gtp, l2tp, tunnel = theirs.pop("gtp_message"), theirs.pop("l2tp_type"), theirs["tunnel"]
    control = (tunnel.values == Tunnel.GTP_U) & (gtp.values != 255)
    control |= (tunnel.values == Tunnel.L2TP) & (l2tp.values != 0)
    theirs["tunnel"] = Column(tunnel.values, tunnel.valid & ~control)
    return theirs


def test_built_frames(tool: Callable[[str], str], tmp_path: Path) -> None:
    names, packets = zip(*frames.frames(), *frames.malformed_frames(), strict=True)
    comparison = compare(packets, names, chunk_of(packets), dissect(tool("tshark"), packets, tmp_path))
    print(comparison)
    assert not comparison.differences, "\n".join(comparison.differences)
    assert {packet.link_type for packet in packets} == set(LAYERS)


def test_cut_frames(tool: Callable[[str], str], tmp_path: Path) -> None:
    names, packets = [], []
    for name, packet in list(frames.frames())[::17] + list(frames.malformed_frames())[::3]:
        for caplen in range(1, min(packet.caplen, 120)):
            names.append(f"{name} cut to {caplen}")
            packets.append(frames.packet(packet.link_type, packet.data[:caplen], frame_len=packet.frame_len))
    comparison = compare(packets, names, chunk_of(packets), dissect(tool("tshark"), packets, tmp_path))
    print(comparison)
    assert not comparison.differences, "\n".join(comparison.differences)


def test_corpus(corpus: Path, tool: Callable[[str], str], tmp_path: Path) -> None:
    names, packets = [], []
    for path in sorted(
        path for path in corpus.rglob("*") if path.is_file() and path.suffix not in (".tsv", ".md")
    ):
        for packet in whole_packets(path):
            if packet.link_type in LAYERS:
                packets.append(packet)
                names.append(str(path.relative_to(corpus)))
    dissected = dissect(tool("tshark"), packets, tmp_path)
    comparison = compare(packets, names, chunk_of(packets), dissected)
    print(f"{len(set(names))} captures, {comparison}")
    assert not comparison.differences, "\n".join(comparison.differences)
    assert len(set(names)) >= LEAST_CAPTURES
    assert comparison.columns - len(CHECKSUMS) >= LEAST_COLUMNS
    assert set(HEADERS.split()) <= set(dissected.protocols.str.split(":").explode())
    assert sum(comparison.excused.values()) < GREATEST_EXCUSED_SHARE * comparison.packets * comparison.columns
