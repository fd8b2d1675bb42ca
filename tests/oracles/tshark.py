"""What tshark says of packets, in the columns of the packet table."""

from __future__ import annotations

import ipaddress
import struct
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tests.oracles.reader import Packet

FIELDS = """
eth_src               eth.src                        eth
eth_dst               eth.dst                        eth
eth_type              eth.type                       eth
eth_type              eth.len                        eth
vlan_id               vlan.id                        outer:vlan
vlan_id               ieee8021ad.id                  outer:ieee8021ad
mpls_label            mpls.label                     mpls
pppoe_session_id      pppoe.session_id               pppoes pppoed
sll_pkttype           sll.pkttype                    sll
llc_dsap              llc.dsap                       llc
llc_ssap              llc.ssap                       llc
llc_control           llc.control                    llc
wlan_fc_type_subtype  wlan.fc.type_subtype           wlan
wlan_flags            wlan.flags                     wlan
wlan_ra               wlan.ra                        wlan
wlan_ta               wlan.ta                        wlan
ip_version            ip.version                     ip
ip_version            ipv6.version                   ipv6
ip_src                ip.src                         ip
ip_src                arp.src.proto_ipv4             arp
ip_dst                ip.dst                         ip
ip_dst                arp.dst.proto_ipv4             arp
ipv6_src              ipv6.src                       ipv6
ipv6_dst              ipv6.dst                       ipv6
ip_proto              ip.proto                       ip
ip_proto              ipv6.nxt                       ipv6
ip_ttl                ip.ttl                         ip
ip_ttl                ipv6.hlim                      ipv6
ip_id                 ip.id                          ip
ip_len                ip.len                         ip
ip_len                ipv6.plen                      ipv6
ip_flags              ip.flags                       ip
ip_frag_offset        ip.frag_offset                 ip
ip_frag_offset        ipv6.fraghdr.offset            ipv6.fraghdr
ip_dsfield            ip.dsfield                     ip
ip_dsfield            ipv6.tclass                    ipv6
ip_hdr_len            ip.hdr_len                     ip
ipv6_flow             ipv6.flow                      ipv6
arp_opcode            arp.opcode                     arp
src_port              tcp.srcport                    tcp
src_port              udp.srcport                    udp
src_port              sctp.srcport                   sctp
dst_port              tcp.dstport                    tcp
dst_port              udp.dstport                    udp
dst_port              sctp.dstport                   sctp
tcp_seq               tcp.seq_raw                    tcp
tcp_ack               tcp.ack_raw                    tcp
tcp_flags             tcp.flags                      tcp
tcp_window            tcp.window_size_value          tcp
tcp_hdr_len           tcp.hdr_len                    tcp
tcp_mss               tcp.options.mss_val            tcp
tcp_wscale            tcp.options.wscale.shift       tcp
tcp_sack_ok           tcp.options.sack_perm          tcp
tcp_ts_val            tcp.options.timestamp.tsval    tcp
tcp_ts_ecr            tcp.options.timestamp.tsecr    tcp
udp_length            udp.length                     udp
icmp_type             icmp.type                      icmp
icmp_type             icmpv6.type                    icmpv6
icmp_code             icmp.code                      icmp
icmp_code             icmpv6.code                    icmpv6
igmp_type             igmp.type                      igmp
igmp_type             rgmp.type                      igmp
igmp_type             dvmrp.type                     igmp
tcp_payload_len       tcp.len                        tcp
tcp_checksum          tcp.checksum                   tcp
udp_checksum          udp.checksum                   udp
sctp_checksum         sctp.checksum                  sctp
icmp_checksum         icmp.checksum                  icmp
icmp_checksum         icmpv6.checksum                icmpv6
igmp_checksum         igmp.checksum                  igmp
ip_checksum           ip.checksum                    ip
gtp_message           gtp.message                    gtp
l2tp_type             l2tp.type                      l2tp
"""
"""Column, tshark's field with its value, and the layers of which it counts: a field of a layer that stands
only behind the outermost headers (in a tunnel, or in what an ICMP error quotes) would fill in for a missing
one."""

PREFERENCES = (
    "eth.fcs:Never",
    "ip.check_checksum:FALSE",
    "ip.defragment:FALSE",
    "ip.tso_support:TRUE",
    "ipv6.defragment:FALSE",
    "ipv6.tso_support:TRUE",
    "tcp.analyze_sequence_numbers:FALSE",
    "tcp.check_checksum:FALSE",
    "tcp.desegment_tcp_streams:FALSE",
    "tcp.relative_sequence_numbers:FALSE",
    "udp.check_checksum:FALSE",
    "wlan.defragment:FALSE",
    "wlan.enable_decryption:FALSE",
)
"""Each packet alone, and numbers as they are on the wire."""

BEFORE_NETWORK = {
    *("eth", "ethertype", "vlan", "ieee8021ad", "mpls", "llc", "pppoed", "pppoes", "ppp", "chdlc"),
    *("null", "loop", "raw", "sll", "radiotap", "wlan_radio", "wlan"),
}
NETWORK_TYPES = {"ip": 0x0800, "ipv6": 0x86DD, "arp": 0x0806, "slarp": 0x0806}
"""Network layers and their EtherTypes; RARP is shown as ARP, and Cisco's SLARP has RARP's number."""

IPV6_EXTENSIONS = {"ah", "ipv6.dstopts", "ipv6.fraghdr", "ipv6.hopopts", "ipv6.routing"}
PROTOCOLS = {
    "icmp": 1,
    "igmp": 2,
    "tcp": 6,
    "udp": 17,
    "gre": 47,
    "esp": 50,
    "icmpv6": 58,
    "ospf": 89,
    "sctp": 132,
}
TUNNELS_OVER_IP = {"gre": 1, "ip": 2, "ipv6": 3, "etherip": 4, "l2tp": 5, "mpls": 6}
TUNNELS_OVER_UDP = {"vxlan": 16, "geneve": 17, "gtp": 18, "l2tp": 19}


@dataclass(frozen=True, slots=True)
class Column:
    """Values of a column, one per packet, and where there is one."""

    values: NDArray[np.uint64]
    valid: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Dissected:
    """What tshark says of some packets: its ``frame.protocols`` for each, and the columns."""

    protocols: pl.Series
    columns: dict[str, Column]


@dataclass(frozen=True, slots=True)
class Outermost:
    """The outermost headers of a packet as ``frame.protocols`` names them, down to the transport header."""

    layers: frozenset[str]
    network: str
    transport: str
    vlan_depth: int
    tunnel: int


def write_pcapng(path: Path, packets: Sequence[Packet]) -> None:
    """A capture of these packets, with one interface per link type and length of the FCS."""
    interfaces: dict[tuple[int, int], int] = {}
    with path.open("wb") as capture:
        capture.write(_block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
        for packet in packets:
            kind = packet.link_type, packet.fcs_len
            if kind not in interfaces:
                interfaces[kind] = len(interfaces)
                options = struct.pack("<HHB3xI", 13, 1, packet.fcs_len, 0) if packet.fcs_len else b""
                capture.write(_block(1, struct.pack("<HHI", packet.link_type, 0, 0) + options))
            head = struct.pack("<IIIII", interfaces[kind], 0, 0, packet.caplen, packet.frame_len)
            capture.write(_block(6, head + packet.data))


def _block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def dissect(tshark: str, packets: Sequence[Packet], folder: Path) -> Dissected:
    """What the program ``tshark`` says of the packets; ``folder`` is for temporary files."""
    fields = [line.split()[1] for line in FIELDS.split("\n") if line]
    names = ["frame.protocols", *dict.fromkeys(fields)]
    capture, table = folder / "packets.pcapng", folder / "fields.tsv"
    write_pcapng(capture, packets)
    command = [tshark, "-n", "-r", str(capture), "-T", "fields", "-E", "occurrence=f"]
    command += [word for preference in PREFERENCES for word in ("-o", preference)]
    command += [word for name in names for word in ("-e", name)]
    with table.open("wb") as output:
        subprocess.run(command, stdout=output, stderr=subprocess.PIPE, check=True)
    read = pl.read_csv(
        table, separator="\t", has_header=False, new_columns=names, infer_schema=False, quote_char=None
    )
    assert read.height == len(packets)
    return _columns(read)


def _columns(fields: pl.DataFrame) -> Dissected:
    protocols = fields["frame.protocols"].fill_null("")
    distinct = protocols.unique()
    outermost = [outer_headers(text) for text in distinct]

    def per_packet(value: Callable[[Outermost], int]) -> NDArray[np.uint64]:
        numbers = pl.Series([value(headers) for headers in outermost], dtype=pl.UInt64)
        return protocols.replace_strict(distinct, numbers).to_numpy()

    columns: dict[str, Column] = {}
    for line in FIELDS.strip().split("\n"):
        column, field, *layers = line.split()
        counts = per_packet(lambda headers, of=layers: not headers.layers.isdisjoint(of)) != 0  # type: ignore[misc]
        halves = column in ("ipv6_src", "ipv6_dst")
        parts = (("_hi", 64), ("_lo", 0)) if halves else (("", 0),)
        for suffix, shift in parts:
            found = _numbers(fields[field], column, shift)
            earlier = columns.get(column + suffix)
            columns[column + suffix] = _merged(earlier, Column(found.values, found.valid & counts))
    for column, value in (
        ("network_type", lambda headers: NETWORK_TYPES.get(headers.network, 0)),
        ("l4_proto", lambda headers: PROTOCOLS.get(headers.transport, 0)),
        ("vlan_depth", lambda headers: headers.vlan_depth),
        ("tunnel", lambda headers: headers.tunnel),
    ):
        values = per_packet(value)
        columns[column] = Column(values, values != 0)
    return Dissected(protocols, columns)


def _merged(first: Column | None, second: Column) -> Column:
    if first is None:
        return second
    return Column(np.where(first.valid, first.values, second.values), first.valid | second.valid)


def _numbers(texts: pl.Series, column: str, shift: int) -> Column:
    distinct = texts.drop_nulls().unique()
    numbers = [number(text, column) >> shift & (1 << 64) - 1 for text in distinct]
    found = texts.replace_strict(distinct, pl.Series(numbers, dtype=pl.UInt64), default=None)
    return Column(found.fill_null(0).to_numpy(), found.is_not_null().to_numpy())


def number(text: str, column: str) -> int:
    """The value that tshark writes as ``text`` for a column, as a number."""
    if column == "tcp_sack_ok":
        return 1  # whatever octets the option has
    if column in ("ip_src", "ip_dst") or column.startswith(("ipv6_src", "ipv6_dst")):
        return int(ipaddress.ip_address(text))
    if column in ("eth_src", "eth_dst", "wlan_ra", "wlan_ta"):
        return int(text.replace(":", ""), 16)
    if column == "ip_frag_offset":
        return int(text, 0) * 8
    return int(text, 0)


def outer_headers(protocols: str) -> Outermost:
    """The outermost headers in a ``frame.protocols``; what a tunnel carries or ICMP quotes is not among
    them."""
    names = protocols.split(":")
    layers: list[str] = []
    while names and names[0] in BEFORE_NETWORK:
        if names[0] in ("eth", "llc", "wlan") and names[0] in layers:
            break
        layers.append(names.pop(0))
    vlans = [layer for layer in layers if layer in ("vlan", "ieee8021ad")]
    layers += [f"outer:{vlan}" for vlan in vlans[:1]]
    network = transport = ""
    tunnel = 0
    if names and names[0] in NETWORK_TYPES:
        network = names.pop(0)
        layers.append(network)
        while names and network == "ipv6" and names[0] in IPV6_EXTENSIONS:
            layers.append(names.pop(0))
    if names and network in ("ip", "ipv6"):
        tunnel = TUNNELS_OVER_IP.get(names[0], 0)
        if not tunnel:
            transport = names[0]
            layers.append(transport)
    if transport == "udp" and len(names) > 1:
        tunnel = TUNNELS_OVER_UDP.get(names[1], 0)
        layers.append(names[1])
    return Outermost(frozenset(layers), network, transport, len(vlans), tunnel)
