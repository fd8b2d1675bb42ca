"""``irregular`` against libpcap: the columns of every other packet foretell what a filter says of it."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pcap2arrow.layers import Decoded, decode
from pcap2arrow.numbers import EtherType, IPProtocol, LinkType
from tests.oracles import frames
from tests.oracles.chunks import chunk_of
from tests.oracles.reader import Packet

Mask = NDArray[np.bool_]

NETWORK_OFFSETS = {
    LinkType.ETHERNET: 14,
    LinkType.NULL: 4,
    LinkType.LOOP: 4,
    LinkType.PPP: 4,
    LinkType.PPP_HDLC: 4,
    LinkType.CISCO_HDLC: 4,
    LinkType.RAW: 0,
    LinkType.RAW_BSD: 0,
    LinkType.IPV4: 0,
    LinkType.IPV6: 0,
    LinkType.LINUX_SLL: 16,
    LinkType.LINUX_SLL2: 20,
    LinkType.IEEE802_11: None,
    LinkType.IEEE802_11_RADIOTAP: None,
}
"""Where libpcap reads the network header; None: it looks how long the headers before it are."""


class Columns:
    """Columns of decoded packets, with 0 where they are null."""

    def __init__(self, decoded: Decoded, count: int) -> None:
        self._columns, self._count = decoded.columns, count

    def __getitem__(self, name: str) -> NDArray[np.int64]:
        column = self._columns.get(name)
        return np.zeros(self._count, np.int64) if column is None else column.values.astype(np.int64)

    def has(self, name: str) -> Mask:
        column = self._columns.get(name)
        if column is None:
            return np.zeros(self._count, np.bool_)
        return np.ones(self._count, np.bool_) if column.valid is None else column.valid


def network(c: Columns, link_type: int, *ethertypes: int) -> Mask:
    """Packets with a network header of such a type where libpcap looks for it."""
    found: Mask = np.isin(c["network_type"], ethertypes)
    for shift in ("vlan_id", "mpls_label", "pppoe_session_id"):
        found &= ~c.has(shift)
    offset = NETWORK_OFFSETS[LinkType(link_type)]
    if offset is not None:
        found &= ~c.has("llc_dsap") & (~c.has("network_offset") | (c["network_offset"] == offset))
    return found


def protocol(c: Columns, link_type: int, number: int) -> Mask:
    """``ip proto`` or ``ip6 proto``, which looks behind a fragment header too if that comes first."""
    fragment = (c["ip_version"] == 6) & (c["ip_proto"] == IPProtocol.FRAGMENT) & (c["l4_proto"] == number)
    fragment &= ~c.has("transport_offset") | (c["transport_offset"] - c["network_offset"] == 48)
    found: Mask = network(c, link_type, EtherType.IPV4, EtherType.IPV6)
    found &= (c["ip_proto"] == number) | fragment
    return found


def port(c: Columns, link_type: int, number: int) -> Mask:
    """``tcp port``: not in later fragments, not behind IPv6's extension headers."""
    plain = np.where(c["ip_version"] == 4, c["ip_frag_offset"] == 0, c["l4_proto"] == c["ip_proto"])
    found: Mask = protocol(c, link_type, IPProtocol.TCP) & plain
    found &= (c["src_port"] == number) | (c["dst_port"] == number)
    return found


def host(c: Columns, link_type: int, address: int) -> Mask:
    """``host`` of IPv4, which is meant for ARP and RARP too."""
    found: Mask = network(c, link_type, EtherType.IPV4, EtherType.ARP, EtherType.RARP)
    found &= (c["ip_src"] == address) | (c["ip_dst"] == address)
    return found


FILTERS: dict[str, Callable[[Columns, int], Mask]] = {
    "ip": lambda c, link: network(c, link, EtherType.IPV4),
    "ip6": lambda c, link: network(c, link, EtherType.IPV6),
    "arp": lambda c, link: network(c, link, EtherType.ARP),
    "rarp": lambda c, link: network(c, link, EtherType.RARP),
    "tcp": lambda c, link: protocol(c, link, IPProtocol.TCP),
    "udp": lambda c, link: protocol(c, link, IPProtocol.UDP),
    "icmp": lambda c, link: protocol(c, link, IPProtocol.ICMP) & (c["ip_version"] == 4),
    "tcp port 8443": lambda c, link: port(c, link, 8443),
    "host 192.0.2.33": lambda c, link: host(c, link, 0xC0000221),
    "tcp[13] = 0x18": lambda c, link: (
        port(c, link, 8443) & (c["ip_version"] == 4) & (c["tcp_flags"] & 0xFF == 0x18)
    ),
}
"""Filters, and what the columns say of them."""


def accepted(tcpdump: str, packets: Sequence[Packet], expression: str, folder: Path) -> Mask:
    """Which packets of one link type libpcap accepts, without its optimiser."""
    capture = folder / "packets.pcap"
    records = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, packets[0].link_type)]
    for number, packet in enumerate(packets):
        records.append(struct.pack("<IIII", number, 0, packet.caplen, packet.frame_len) + packet.data)
    capture.write_bytes(b"".join(records))
    command = [tcpdump, "-O", "-r", str(capture), "-w", "-", expression]
    output = subprocess.run(command, capture_output=True, check=True).stdout
    found, at = np.zeros(len(packets), np.bool_), 24
    while at < len(output):
        number, _, caplen, _ = struct.unpack_from("<IIII", output, at)
        found[number] = True
        at += 16 + caplen
    return found


@pytest.mark.parametrize("link_type", list(NETWORK_OFFSETS), ids=lambda link_type: link_type.name.lower())
def test_regular_packets_read_as_libpcap_reads_them(
    link_type: LinkType, tool: Callable[[str], str], tmp_path: Path
) -> None:
    built = [*frames.frames(), *frames.malformed_frames()]
    whole = [packet for _, packet in built if packet.link_type == link_type]
    packets = list(whole)
    for packet in whole[::5]:
        for caplen in range(min(packet.caplen, 100)):
            packets.append(frames.packet(link_type, packet.data[:caplen], frame_len=packet.frame_len))
    decoded = decode(chunk_of(packets))
    columns = Columns(decoded, len(packets))
    regular = ~decoded.columns["irregular"].values
    assert regular[: len(whole)].any()
    for expression, foretell in FILTERS.items():
        verdicts = accepted(tool("tcpdump"), packets, expression, tmp_path)
        wrong = np.flatnonzero(regular & (verdicts != foretell(columns, link_type)))
        assert wrong.size == 0, (expression, [packets[row].data.hex() for row in wrong[:5]])
