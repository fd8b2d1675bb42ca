"""Transport headers: TCP, UDP, SCTP, ICMP, ICMPv6 and IGMP."""

from __future__ import annotations

import numpy as np

from pcap2arrow.layers.dissection import UNBOUNDED, Dissection, Headers, Next, Rows
from pcap2arrow.layers.tcp_options import FIXED_LEN, OPTION_COLUMNS, options

TCP = np.dtype(
    [
        ("source", ">u2"),
        ("destination", ">u2"),
        ("sequence", ">u4"),
        ("acknowledgement", ">u4"),
        ("offset_flags", ">u2"),
        ("window", ">u2"),
        ("checksum", ">u2"),
        ("urgent", ">u2"),
        ("first_options", ">u2"),  # what stands behind the header proper: read along, for its options
    ]
)
UDP = np.dtype([("source", ">u2"), ("destination", ">u2"), ("length", ">u2"), ("checksum", ">u2")])
SCTP = np.dtype([("source", ">u2"), ("destination", ">u2"), ("tag", ">u4"), ("checksum", ">u4")])
ICMP = np.dtype([("type", "u1"), ("code", "u1"), ("checksum", ">u2"), ("rest", ">u4")])


def transport(d: Dissection) -> None:
    """The transport header of every packet."""
    layers = ((Next.TCP, tcp), (Next.UDP, udp), (Next.SCTP, sctp), (Next.ICMP, icmp), (Next.IGMP, igmp))
    for what, layer in layers:
        rows = d.rows(what)
        if rows.size:
            layer(d, rows)


def _ports(d: Dissection, headers: Headers) -> None:
    d.put(headers, src_port="source", dst_port="destination")
    enough = headers.has(4)
    if enough is not None:
        d.endpoints_known[headers.rows[~enough]] = False


def tcp(d: Dissection, rows: Rows) -> None:
    """TCP (RFC 9293)."""
    headers = d.read(rows, TCP)
    offset_flags = headers["offset_flags"]
    header_len = offset_flags >> 12 << 2
    headers.fault(header_len < FIXED_LEN, 13)
    _ports(d, headers)
    d.put(headers, tcp_seq="sequence", tcp_ack="acknowledgement", tcp_window="window")
    d.put_values(headers, 13, tcp_hdr_len=header_len)
    d.put_values(headers, 14, tcp_flags=offset_flags & 0x0FFF)
    if d.wants("irregular", *OPTION_COLUMNS):
        with_options = (header_len > FIXED_LEN) & (headers.room > FIXED_LEN)
        if with_options.any():
            options(d, headers.where(with_options), header_len[with_options].astype(np.int64))
    d.step(headers, np.maximum(header_len, FIXED_LEN), Next.PAYLOAD)


def udp(d: Dissection, rows: Rows) -> None:
    """UDP (RFC 768); its length bounds the payload as IP's does.  It may be 0 where IP's is (RFC 2675, 4)."""
    headers = d.read(rows, UDP)
    length = headers["length"].astype(np.int64)
    no_length = (length == 0) & (d.values("ip_len", rows) == 0)
    headers.fault((length < UDP.itemsize) & ~no_length, 6)
    _ports(d, headers)
    d.put(headers, udp_length="length")
    d.bound(headers, np.where(no_length, UNBOUNDED, length))
    d.step(headers, UDP.itemsize, Next.PAYLOAD)


def sctp(d: Dissection, rows: Rows) -> None:
    """SCTP's common header (RFC 9260, 3.1)."""
    headers = d.read(rows, SCTP)
    _ports(d, headers)
    d.step(headers, SCTP.itemsize, Next.PAYLOAD)


def icmp(d: Dissection, rows: Rows) -> None:
    """ICMP (RFC 792) and ICMPv6 (RFC 4443); the header is taken as 8 octets, which every message has."""
    headers = d.read(rows, ICMP)
    d.put(headers, icmp_type="type", icmp_code="code")
    d.step(headers, ICMP.itemsize, Next.PAYLOAD)


def igmp(d: Dissection, rows: Rows) -> None:
    """IGMP (RFC 2236, RFC 9776); 8 octets, which every message has."""
    headers = d.read(rows, ICMP)
    d.put(headers, igmp_type="type")
    d.step(headers, ICMP.itemsize, Next.PAYLOAD)
