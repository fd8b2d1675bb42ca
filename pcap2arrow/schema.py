"""The packet table: the one place where its columns are defined.

Everything else derives from :data:`COLUMNS`: the Arrow schema, the metadata of the Parquet fields, the encodings on
disk and the reference that ``pcap2arrow schema`` prints.  Names are Wireshark's display-filter names with ``_`` for
``.``; where a neutral word serves better, ``wireshark`` names the field (or fields) it stands for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

VERSION = 1
"""Version of the packet table; readers accept this one and every older one."""

Kind = Literal["bool", "uint8", "uint16", "uint32", "uint64", "time", "binary"]
Encoding = Literal["plain", "delta", "split", "dictionary"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the packet table.

    ``kind`` is the Arrow type (``time`` is timestamp[ns, UTC], ``binary`` large_binary), ``group`` the heading it is
    listed under, ``doc`` what it means and when it is null, ``unit`` its unit if it has one, ``wireshark`` the
    display-filter field or fields (space-separated) with the same value, ``encoding`` how Parquet stores it.
    """

    name: str
    kind: Kind
    group: str
    doc: str
    unit: str = ""
    wireshark: str = ""
    encoding: Encoding = "split"
    nullable: bool = True


def _group(group: str, columns: Iterable[tuple[object, ...]]) -> tuple[Column, ...]:
    """Columns of one group from rows (name, kind, doc, wireshark, unit, encoding, nullable), the last ones optional."""
    keys = ("name", "kind", "doc", "wireshark", "unit", "encoding", "nullable")
    return tuple(Column(group=group, **dict(zip(keys, row, strict=False))) for row in columns)  # type: ignore[arg-type]


_PLAIN, _DICTIONARY = "plain", "dictionary"

COLUMNS: tuple[Column, ...] = (
    *_group(
        "identity",
        [
            ("capture_id", "uint64", "The capture, as hash of its identity", "", "", _PLAIN, False),
            ("frame_number", "uint64", "Place in its capture, from 1", "frame.number", "", "delta", False),
            ("interface_id", "uint16", "Interface of the capture, from 0 over all its sections; null for pcap", "frame.interface_id"),
            ("link_type", "uint16", "LINKTYPE_ value of the link-layer header", "", "", _PLAIN, False),
        ],
    ),
    *_group(
        "time and size",
        [
            ("time", "time", "When the packet was captured; null without a time stamp, or where it does not fit", "frame.time_epoch", "ns", "delta"),
            ("order_time", "time", "Greatest time so far in its capture; null where that is `time`", "", "ns", "delta"),
            ("caplen", "uint32", "Octets captured", "frame.cap_len", "octets", _DICTIONARY, False),
            ("filter_len", "uint32", "Octets that libpcap sees: min(caplen, snap length)", "", "octets", "split", False),
            ("frame_len", "uint32", "Octets on the wire, as the record says", "frame.len", "octets", _DICTIONARY, False),
        ],
    ),
    *_group(
        "link",
        [
            ("eth_src", "uint64", "Ethernet source address, 48 bits", "eth.src", "", _DICTIONARY),
            ("eth_dst", "uint64", "Ethernet destination address, 48 bits", "eth.dst", "", _DICTIONARY),
            ("eth_type", "uint16", "The word at octets 12 and 13 of an Ethernet frame: EtherType, or 802.3 length below 1536", "eth.type eth.len", "", _DICTIONARY),
            ("network_type", "uint16", "EtherType of what follows link header, tags and labels, whatever the link type writes for it", "", "", _DICTIONARY),
            ("vlan_id", "uint16", "VLAN identifier of the outermost tag", "vlan.id"),
            ("vlan_depth", "uint8", "Number of VLAN tags; null without one"),
            ("mpls_label", "uint32", "Label of the outermost MPLS entry", "mpls.label"),
            ("mpls_depth", "uint8", "Number of MPLS entries; null without one"),
            ("pppoe_session_id", "uint16", "PPPoE session", "pppoe.session_id"),
            ("sll_pkttype", "uint16", "Direction word of a Linux cooked header: 0 to us, 1 broadcast, 2 multicast, 3 to others, 4 from us", "sll.pkttype"),
            ("llc_dsap", "uint8", "LLC destination service access point, group bit included", "llc.dsap"),
            ("llc_ssap", "uint8", "LLC source service access point, command/response bit included", "llc.ssap"),
            ("llc_control", "uint16", "LLC control field: one octet for U frames, two (low one first) for I and S frames", "llc.control"),
            ("wlan_fc_type_subtype", "uint8", "802.11 frame type (2 bits) and subtype (4 bits)", "wlan.fc.type_subtype"),
            ("wlan_flags", "uint8", "Second octet of the 802.11 frame control field", "wlan.flags"),
            ("wlan_ra", "uint64", "802.11 receiver address (address 1)", "wlan.ra", "", _PLAIN),
            ("wlan_ta", "uint64", "802.11 transmitter address (address 2)", "wlan.ta", "", _PLAIN),
        ],
    ),
    *_group(
        "network",
        [
            ("ip_version", "uint8", "4 or 6; null where the packet is no IP", "ip.version ipv6.version", "", _PLAIN),
            ("ip_src", "uint32", "IPv4 source, or sender's protocol address of ARP over IPv4", "ip.src arp.src.proto_ipv4", "", _DICTIONARY),
            ("ip_dst", "uint32", "IPv4 destination, or target's protocol address of ARP over IPv4", "ip.dst arp.dst.proto_ipv4", "", _DICTIONARY),
            ("ipv6_src_hi", "uint64", "IPv6 source, upper 64 bits", "ipv6.src", "", _PLAIN),
            ("ipv6_src_lo", "uint64", "IPv6 source, lower 64 bits", "ipv6.src", "", _PLAIN),
            ("ipv6_dst_hi", "uint64", "IPv6 destination, upper 64 bits", "ipv6.dst", "", _PLAIN),
            ("ipv6_dst_lo", "uint64", "IPv6 destination, lower 64 bits", "ipv6.dst", "", _PLAIN),
            ("ip_proto", "uint8", "IPv4 protocol, or the IPv6 header's own next header", "ip.proto ipv6.nxt", "", _DICTIONARY),
            ("ip_ttl", "uint8", "Time to live, or hop limit", "ip.ttl ipv6.hlim", "hops", _DICTIONARY),
            ("ip_id", "uint16", "IPv4 identification", "ip.id"),
            ("ip_len", "uint16", "IPv4 total length; IPv6 payload length", "ip.len ipv6.plen", "octets"),
            ("ip_flags", "uint8", "The three flag bits: 4 reserved, 2 don't fragment, 1 more fragments; null for IPv6", "ip.flags"),
            ("ip_frag_offset", "uint16", "Fragment offset; of IPv6 where there is a fragment header", "ip.frag_offset ipv6.fraghdr.offset", "octets", _PLAIN),
            ("ip_dsfield", "uint8", "Differentiated services octet, or traffic class", "ip.dsfield ipv6.tclass"),
            ("ip_hdr_len", "uint8", "IPv4 header length with options; 40 for IPv6", "ip.hdr_len", "octets", _PLAIN),
            ("ipv6_flow", "uint32", "IPv6 flow label", "ipv6.flow"),
            ("arp_opcode", "uint16", "ARP or RARP operation", "arp.opcode"),
        ],
    ),
    *_group(
        "transport",
        [
            ("l4_proto", "uint8", "Protocol of the transport header: `ip_proto`, or what follows IPv6's extension headers", "", "", _DICTIONARY),
            ("src_port", "uint16", "Source port of TCP, UDP or SCTP; null in later fragments", "tcp.srcport udp.srcport sctp.srcport", "", _DICTIONARY),
            ("dst_port", "uint16", "Destination port of TCP, UDP or SCTP; null in later fragments", "tcp.dstport udp.dstport sctp.dstport", "", _DICTIONARY),
            ("tcp_seq", "uint32", "Sequence number as on the wire", "tcp.seq_raw", "", _PLAIN),
            ("tcp_ack", "uint32", "Acknowledgement number as on the wire, whatever the ACK flag says", "tcp.ack_raw", "", _PLAIN),
            ("tcp_flags", "uint16", "The twelve bits after the data offset", "tcp.flags", "", _DICTIONARY),
            ("tcp_window", "uint16", "Window as on the wire, not scaled", "tcp.window_size_value", "", _PLAIN),
            ("tcp_hdr_len", "uint8", "TCP header length with options", "tcp.hdr_len", "octets"),
            ("tcp_mss", "uint16", "Maximum segment size option", "tcp.options.mss_val", "octets"),
            ("tcp_wscale", "uint8", "Window scale option: shift count", "tcp.options.wscale.shift"),
            ("tcp_sack_ok", "bool", "True where the SACK permitted option is present; null where it is not", "tcp.options.sack_perm"),
            ("tcp_ts_val", "uint32", "Time stamp option: value", "tcp.options.timestamp.tsval", "", _PLAIN),
            ("tcp_ts_ecr", "uint32", "Time stamp option: echo reply", "tcp.options.timestamp.tsecr", "", _PLAIN),
            ("udp_length", "uint16", "UDP length, header included", "udp.length", "octets"),
            ("icmp_type", "uint8", "ICMP or ICMPv6 type", "icmp.type icmpv6.type"),
            ("icmp_code", "uint8", "ICMP or ICMPv6 code", "icmp.code icmpv6.code"),
            ("igmp_type", "uint8", "IGMP type", "igmp.type"),
            ("tunnel", "uint8", "Kind of tunnel that starts after the outermost headers (numbers.Tunnel); null without one"),
        ],
    ),
    *_group(
        "decoding",
        [
            ("network_offset", "uint16", "Where the network header starts in the frame; null where there is none", "", "octets"),
            ("transport_offset", "uint16", "Where the transport header starts in the frame; null where there is none", "", "octets"),
            ("irregular", "bool", "A header is cut or malformed, or the packet is an IPv6 fragment, so that columns may differ from what libpcap reads at fixed offsets", "", "", "plain", False),
        ],
    ),
    *_group(
        "grouping",
        [
            ("flow_hash", "uint64", "Hash of addresses, ports and protocol, the same for both directions and on every machine; a hint for grouping, never an identity; null where the packet is no IP", "", "", _PLAIN),
            ("frag_key", "uint64", "Hash of addresses, identification and protocol of a fragment; null where the packet is none", "", "", _PLAIN),
        ],
    ),
    *_group(
        "bytes",
        [
            ("header", "binary", "The frame's octets that were decoded, perhaps none; the frame is `header` followed by `rest`", "", "", "plain"),
            ("rest", "binary", "The frame's octets after `header`: transport payload, then padding and trailer", "", "", _DICTIONARY),
            ("irregular_head", "binary", "Of an irregular frame, the first 128 octets that libpcap sees (up to `filter_len`); null for others: where columns answer a filter for regular frames, it reads no other octets", "", "", "plain"),
            ("payload_len", "uint32", "Transport payload: the first octets of `rest`; follows IP's length, so that padding is no payload", "", "octets", "split", False),
        ],
    ),
    *_group(
        "losslessness",
        [
            ("record_offset", "uint64", "Where the packet's record starts in the (decompressed) capture", "", "octets", "delta", False),
            ("time_raw", "uint64", "Time stamp as written where `time` can't give it back: pcap seconds << 32 | sub-seconds, pcapng ticks", "", ""),
            ("record_extra", "binary", "The record's octets before and after its packet, verbatim; null where the other columns give them back", "", "", "plain"),
        ],
    ),
)  # fmt: skip
"""Every column of the packet table, in the table's order."""

IRREGULAR_HEAD = 128
"""Octets of an irregular frame that ``irregular_head`` has at most."""

VIEW_COLUMNS = ("header", "rest", "irregular_head")
"""Columns whose values are each one piece of the capture."""

BYTES_COLUMNS = ("header", "rest", "irregular_head", "record_extra")
"""Columns that ``--frames referenced`` and ``--frames none`` leave out: the archive holds those octets."""


@cache
def by_name() -> dict[str, Column]:
    """Columns by name."""
    return {column.name: column for column in COLUMNS}


def arrow_type(kind: Kind) -> pa.DataType:
    """Arrow type of a column of that kind."""
    import pyarrow as pa

    if kind == "time":
        return pa.timestamp("ns", tz="UTC")
    return pa.large_binary() if kind == "binary" else getattr(pa, "bool_" if kind == "bool" else kind)()


@cache
def arrow_schema(*, bytes_stored: bool = True, views: bool = False) -> pa.Schema:
    """Arrow schema of the packet table, without the columns of bytes unless ``bytes_stored``.

    With ``views``, columns of octets are binary_view where they can be: that is how rows point into a window of a
    capture.  Each field's metadata holds its doc string, unit and Wireshark field; the schema's holds the version.
    """
    import pyarrow as pa

    fields = [
        pa.field(
            column.name,
            pa.binary_view() if views and column.name in VIEW_COLUMNS else arrow_type(column.kind),
            nullable=column.nullable,
            metadata={
                k: v
                for k, v in (("doc", column.doc), ("unit", column.unit), ("wireshark", column.wireshark))
                if v
            },
        )
        for column in COLUMNS
        if bytes_stored or column.name not in BYTES_COLUMNS
    ]
    return pa.schema(fields, metadata={"pcap2arrow.schema_version": str(VERSION)})


@cache
def polars_schema() -> pl.Schema:
    """The packet table's columns as Polars names and types them."""
    import polars as pl

    empty = pl.from_arrow(arrow_schema().empty_table())
    assert isinstance(empty, pl.DataFrame)
    return empty.schema


@cache
def block_schema() -> pa.Schema:
    """Arrow schema of the blocks table: what in a capture is no packet record, so that both tile the capture.

    ``kind`` is header, block, damage or tail; ``block_type`` is pcapng's; ``reason`` says what is wrong, null where
    nothing is; ``content`` holds the octets, null unless frames are stored.  A long stretch takes several rows.
    """
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("capture_id", pa.uint64(), nullable=False),
            pa.field("offset", pa.uint64(), nullable=False),
            pa.field("length", pa.uint64(), nullable=False),
            pa.field("kind", pa.string(), nullable=False),
            pa.field("block_type", pa.uint32()),
            pa.field("reason", pa.string()),
            pa.field("content", pa.large_binary()),
        ],
        metadata={"pcap2arrow.schema_version": str(VERSION)},
    )


@cache
def capture_schema() -> pa.Schema:
    """Arrow schema of the captures table, one row per capture.

    ``path`` is where it was read from, ``size`` its octets (decompressed), ``checksums`` the CRC-32 of every
    ``checksum_block`` octets.  ``ticks`` per second and the words of the file header are null for pcapng, whose
    ``interfaces`` list is null for pcap.  ``fcs_present`` is the P bit.  ``first_ns`` and ``last_ns`` are the first
    and last record's times even where they do not fit a time stamp; ``min_time`` and ``max_time`` the least and
    greatest that fit.  ``complete`` is False where there is damage: ``error`` tells of the first place, ``damage``
    lists them (at most 1 000 of ``damaged``).
    """
    import pyarrow as pa

    time = arrow_type("time")
    interface = pa.struct(
        [
            pa.field("section", pa.uint32()),
            pa.field("name", pa.string()),
            pa.field("link_type", pa.uint16()),
            pa.field("snap_length", pa.uint32()),
            pa.field("resolution", pa.uint8()),
            pa.field("time_offset", pa.int64()),
            pa.field("fcs_len", pa.uint8()),
        ]
    )
    damage = pa.struct([("offset", pa.uint64()), ("length", pa.uint64()), ("reason", pa.string())])
    return pa.schema(
        [
            pa.field("capture_id", pa.uint64(), nullable=False),
            pa.field("name", pa.string(), nullable=False),
            pa.field("path", pa.string(), nullable=False),
            pa.field("identity", pa.string(), nullable=False),
            pa.field("size", pa.uint64(), nullable=False),
            pa.field("stored_size", pa.uint64()),
            pa.field("compression", pa.string()),
            pa.field("checksum_block", pa.uint64(), nullable=False),
            pa.field("checksums", pa.list_(pa.uint32()), nullable=False),
            pa.field("format", pa.string(), nullable=False),
            pa.field("byte_order", pa.string()),
            pa.field("version", pa.string()),
            pa.field("ticks", pa.uint32()),
            pa.field("snap_length", pa.uint32()),
            pa.field("link_word", pa.uint32()),
            pa.field("fcs_present", pa.bool_()),
            pa.field("fcs_len", pa.uint8()),
            pa.field("interfaces", pa.list_(interface)),
            pa.field("link_types", pa.list_(pa.uint16()), nullable=False),
            pa.field("packets", pa.uint64(), nullable=False),
            pa.field("first_ns", pa.decimal128(38, 0)),
            pa.field("last_ns", pa.decimal128(38, 0)),
            pa.field("min_time", time),
            pa.field("max_time", time),
            pa.field("frames", pa.string(), nullable=False),
            pa.field("complete", pa.bool_(), nullable=False),
            pa.field("error", pa.string()),
            pa.field("damaged", pa.uint64(), nullable=False),
            pa.field("damage", pa.list_(damage), nullable=False),
        ],
        metadata={"pcap2arrow.schema_version": str(VERSION)},
    )
