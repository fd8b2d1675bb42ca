"""Network headers: ARP and RARP, IPv4, IPv6 with its extension headers."""

from __future__ import annotations

import numpy as np

from pcap2arrow.layers import hashes
from pcap2arrow.layers.dissection import MAX_DEPTH, UNBOUNDED, Dissection, Headers, Next, Rows, table
from pcap2arrow.numbers import EtherType, IPProtocol

ARP = np.dtype(
    [
        ("hardware", ">u2"),
        ("protocol", ">u2"),
        ("hardware_len", "u1"),
        ("protocol_len", "u1"),
        ("opcode", ">u2"),
    ]
)
ADDRESS = np.dtype([("address", ">u4")])
ATM_HARDWARE = 19
"""Hardware type of ARP over ATM (RFC 2225), whose header differs behind the protocol."""

IPV4 = np.dtype(
    [
        ("version_ihl", "u1"),
        ("dsfield", "u1"),
        ("length", ">u2"),
        ("id", ">u2"),
        ("flags_offset", ">u2"),
        ("ttl", "u1"),
        ("protocol", "u1"),
        ("checksum", ">u2"),
        ("source", ">u4"),
        ("destination", ">u4"),
    ]
)
IPV6 = np.dtype(
    [
        ("version_class_flow", ">u4"),
        ("length", ">u2"),
        ("next_header", "u1"),
        ("hop_limit", "u1"),
        ("source_hi", ">u8"),
        ("source_lo", ">u8"),
        ("destination_hi", ">u8"),
        ("destination_lo", ">u8"),
    ]
)
EXTENSION = np.dtype([("next_header", "u1"), ("length", "u1"), ("offset_more", ">u2"), ("id", ">u4")])
"""Start of an IPv6 extension header; the last two fields are those of the fragment header."""

TRANSPORTS = [
    (IPProtocol.TCP, Next.TCP),
    (IPProtocol.UDP, Next.UDP),
    (IPProtocol.SCTP, Next.SCTP),
    (IPProtocol.ICMP, Next.ICMP),
    (IPProtocol.ICMPV6, Next.ICMP),
    (IPProtocol.IGMP, Next.IGMP),
    (IPProtocol.NO_NEXT_HEADER, Next.PAYLOAD),
]
EXTENSIONS = [
    (IPProtocol.HOP_BY_HOP, Next.IPV6_EXTENSION),
    (IPProtocol.ROUTING, Next.IPV6_EXTENSION),
    (IPProtocol.FRAGMENT, Next.IPV6_EXTENSION),
    (IPProtocol.AH, Next.IPV6_EXTENSION),
    (IPProtocol.DESTINATION_OPTIONS, Next.IPV6_EXTENSION),
]
NEXT_OF_PROTOCOL = table(256, TRANSPORTS, default=Next.OTHER_TRANSPORT)
NEXT_OF_NEXT_HEADER = table(256, TRANSPORTS + EXTENSIONS, default=Next.OTHER_TRANSPORT)


def network(d: Dissection) -> None:
    """The network header of every packet."""
    for what, layer in ((Next.ARP, arp), (Next.IPV4, ipv4), (Next.IPV6, ipv6)):
        rows = d.rows(what)
        if rows.size:
            layer(d, rows)


def arp(d: Dissection, rows: Rows) -> None:
    """ARP and RARP (RFC 826); irregular but for IPv4 over 48-bit addresses, which libpcap expects."""
    headers = d.read(rows, ARP)
    d.put(headers, arp_opcode="opcode")
    hardware_len, protocol_len = headers["hardware_len"].astype(np.int64), headers["protocol_len"]
    headers.fault(headers["hardware"] == ATM_HARDWARE, ARP.itemsize)
    over_ipv4 = (headers["protocol"] == EtherType.IPV4) & (protocol_len == 4)
    d.irregular[rows[~over_ipv4 | (hardware_len != 6)]] = True
    for column, place in (("ip_src", 8 + hardware_len), ("ip_dst", 12 + 2 * hardware_len)):
        there = over_ipv4 & (headers.room >= place + ADDRESS.itemsize)
        addresses = d.gather(headers.at[there] + place[there], ADDRESS)["address"]
        d.put_rows(rows[there], **{column: addresses})
    d.step(headers, ARP.itemsize + 2 * (hardware_len + protocol_len), Next.NOTHING)


def ipv4(d: Dissection, rows: Rows) -> None:
    """IPv4 (RFC 791), its options stepped over."""
    headers = d.read(rows, IPV4)
    version_ihl, length = headers["version_ihl"], headers["length"]
    header_len = (version_ihl & 0x0F) << 2
    headers.fault(version_ihl >> 4 != 4, 0)
    headers.fault(header_len < IPV4.itemsize, 1)
    headers.fault((length < header_len) & (length != 0), 4)
    flags, offset = headers["flags_offset"] >> 13, headers["flags_offset"] << 3
    protocol = headers["protocol"]

    d.put_values(headers, 1, ip_version=np.full(rows.size, 4), ip_hdr_len=header_len)
    d.put(headers, ip_dsfield="dsfield", ip_len="length", ip_id="id", ip_ttl="ttl")
    d.put_values(headers, 7, ip_flags=flags)
    d.put_values(headers, 8, ip_frag_offset=offset)
    d.put_values(headers, 10, ip_proto=protocol, l4_proto=protocol)
    d.put(headers, ip_src="source", ip_dst="destination")

    d.protocol[rows] = protocol
    d.bound(headers, np.where(length == 0, UNBOUNDED, length))
    header_len = np.maximum(header_len, IPV4.itemsize)
    d.step(headers, header_len, np.where(offset != 0, Next.PAYLOAD, NEXT_OF_PROTOCOL.take(protocol)))
    whole = headers.room >= header_len
    d.endpoints_known[rows] = whole
    is_fragment = whole & ((offset != 0) | (flags & 1 != 0))
    if is_fragment.any():
        fragments = headers.where(is_fragment)
        source, destination = fragments["source"], fragments["destination"]
        key = hashes.ipv4_fragment(source, destination, fragments["id"], fragments["protocol"])
        d.put_rows(fragments.rows, frag_key=key)


def ipv6(d: Dissection, rows: Rows) -> None:
    """IPv6 (RFC 8200) with its extension headers."""
    headers = d.read(rows, IPV6)
    first, length = headers["version_class_flow"], headers["length"]
    next_header = headers["next_header"]
    headers.fault(first >> 28 != 6, 0)
    size = IPV6.itemsize
    d.put_values(headers, 1, ip_version=np.full(rows.size, 6), ip_hdr_len=np.full(rows.size, size))
    d.put_values(headers, 2, ip_dsfield=first >> 20 & 0xFF)
    d.put_values(headers, 4, ipv6_flow=first & 0xFFFFF)
    d.put(headers, ip_len="length", ip_proto="next_header", ip_ttl="hop_limit")
    d.put(headers, ipv6_src_hi="source_hi", ipv6_src_lo="source_lo")
    d.put(headers, ipv6_dst_hi="destination_hi", ipv6_dst_lo="destination_lo")

    no_length = (length == 0) & (next_header != IPProtocol.NO_NEXT_HEADER)
    d.protocol[rows] = next_header
    d.bound(headers, np.where(no_length, UNBOUNDED, length + np.int64(size)))
    d.step(headers, size, NEXT_OF_NEXT_HEADER.take(next_header))
    _extensions(d)
    complete = d.next.take(rows) != Next.NOTHING
    d.endpoints_known[rows] = complete
    headers = headers.where(complete)
    d.put_values(headers, size, l4_proto=d.protocol.take(headers.rows))


def _extensions(d: Dissection) -> None:
    """IPv6 extension headers, at most :data:`MAX_DEPTH` of them."""
    fragmented = np.zeros(d.count, np.bool_)
    for _ in range(MAX_DEPTH):
        rows = d.rows(Next.IPV6_EXTENSION)
        if not rows.size:
            return
        headers = d.read(rows, EXTENSION)
        kind, length = d.protocol.take(rows), headers["length"].astype(np.int64)
        is_fragment = kind == IPProtocol.FRAGMENT
        headers.fault(is_fragment & fragmented[rows], 0)  # a fragment of a fragment
        size = np.where(kind == IPProtocol.AH, 4 * (length + 2), 8 * (length + 1))
        size = np.where(is_fragment, EXTENSION.itemsize, size)
        d.protocol[rows] = next_header = headers["next_header"]
        later = is_fragment & (headers["offset_more"] & 0xFFF8 != 0)
        d.step(headers, size, np.where(later, Next.PAYLOAD, NEXT_OF_NEXT_HEADER.take(next_header)))
        if is_fragment.any():
            _fragment(d, headers.where(is_fragment))
            fragmented[rows[is_fragment]] = True
    d.stop(d.rows(Next.IPV6_EXTENSION))


def _fragment(d: Dissection, headers: Headers) -> None:
    """IPv6 fragment headers (RFC 8200, 4.5); a whole packet in one fragment is none (RFC 6946)."""
    d.put_values(headers, 4, ip_frag_offset=headers["offset_more"] & 0xFFF8)
    fragments = headers.where((headers["offset_more"] & 0xFFF9 != 0) & (headers.room >= EXTENSION.itemsize))
    addresses = []
    for column in ("ipv6_src_hi", "ipv6_src_lo", "ipv6_dst_hi", "ipv6_dst_lo"):
        values = d.found(column)
        assert values is not None
        addresses.append(values[fragments.rows])
    d.put_rows(fragments.rows, frag_key=hashes.ipv6_fragment(addresses, fragments["id"]))
