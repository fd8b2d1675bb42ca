"""The decoder: from the octets of packets to the columns of the packet table.

:func:`decode` walks down the headers of all packets of a chunk at once, layer by layer: the link layer,
what an EtherType leads to (tags, labels, PPPoE, LLC), the network layer, the transport layer.  It reads the
outermost headers; a tunnel is named (:mod:`~pcap2arrow.layers.tunnel`), not entered.

**What bounds a header.** The octets that are captured, without the frame check sequence; an 802.3 or PPPoE
length; and from IP on, IP's length (0, as segmentation offload writes it, bounds nothing).  So padding is
neither header nor payload.

**Nulls.** A field whose octets are not all there is null, and so is everything that follows from it; so is
what comes behind a header that is cut or malformed, of which the fields up to and with the faulty one are
kept.  A version nibble that is not IP's makes the whole IP header null.  Chains of headers are followed to
a depth of 16 (:data:`~pcap2arrow.layers.dissection.MAX_DEPTH`): beyond, and where a stack of tags or labels
is cut, its depth is unknown and null.  ``vlan_depth`` and ``mpls_depth`` are null too where there is
neither tag nor label.  A fragment other than the first has no transport header: of its transport columns,
only ``l4_proto`` is there.

**network_type.** The EtherType of what follows all that is named above.  PPP protocols, address families
(NULL, LOOP), version nibbles (raw IP, MPLS) and SNAP types with organisation 0 or 0x0000f8 are translated,
where there is an EtherType for them.  Null where it is not known: other LLC, other PPP, behind labels
anything but IP. Of Cisco HDLC it is the protocol word, whose 0x8035 means SLARP.

**irregular.** True where a header is cut or malformed, and where the columns of a packet can't tell what
libpcap reads at its fixed offsets:

- a link-layer, tag, ARP, IP, extension or transport header that is not all there, or that a length, IP's
included,
  cuts; a snapped payload is not irregular
- a version nibble that is not the one announced, a header length or length field below the least, a
malformed TCP
  option, a fragment header in a fragment, an 802.3 length from 1501 to 1535, LLC that is raw 802.3, a chain
  that is too deep, a protocol version of radiotap or 802.11 other than 0, 802.11 extension frames
- ARP that is not for IPv4 over 48-bit addresses; NULL with its family in big-endian order, NULL and LOOP
with Linux's
  number for IPv6; PPP without address and control octets, with a protocol of one octet, or Cisco HDLC in
  its place; data frames of 802.11 with four addresses, HT control, padding, or a body that does not begin
  with SNAP and organisation 0; offsets above 65535, which are null

Of any other packet, what libpcap reads follows from the columns: its network header is where libpcap looks
for it if ``network_offset`` is the length of the link-layer header alone (Ethernet 14, SLL 16, SLL2 20;
NULL, LOOP, PPP and Cisco HDLC 4; raw IP 0; 802.11 any).  One thing the columns don't know: libpcap takes
the family of NULL in the byte order of the *file*, so in a big-endian capture it is the other packets of
that link type that are regular.

**payload_len.** Captured octets of transport payload.  UDP's length bounds it too.  For IP with a transport
protocol that is not decoded, and in later fragments, what follows the IP header; 0 without IP, and behind a
fault.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from pcap2arrow.layers import ethertype, hashes, tunnel
from pcap2arrow.layers.chunk import PAD, Chunk, Decoded, Values
from pcap2arrow.layers.dissection import Dissection, Next
from pcap2arrow.layers.link import link
from pcap2arrow.layers.network import network
from pcap2arrow.layers.transport import transport

__all__ = ["PAD", "Chunk", "Decoded", "Values", "decode"]


def decode(chunk: Chunk, columns: Collection[str] | None = None) -> Decoded:
    """Decode the packets of a chunk into columns; any octets decode, none raise.

    The result has the columns of the groups link, network, transport, decoding and grouping of
    :data:`pcap2arrow.schema.COLUMNS`, and ``payload_len``, each with one value per packet; what they mean,
    and when they are null, stands there and at the top of this module.  Columns that are null in all
    packets are left out.  What is found in a packet depends on that packet alone, not on the chunk.

    With ``columns`` others may be missing; without ``irregular`` among them, that one does not count.

    >>> frame = bytes.fromhex("ffffffffffff0200000000010806" "0001080006040001" + "00" * 20)
    >>> chunk = Chunk(
    ...     data=np.frombuffer(frame + bytes(PAD), np.uint8),
    ...     start=np.array([0], np.int64),
    ...     caplen=np.array([42], np.uint32),
    ...     frame_len=np.array([42], np.uint32),
    ...     link_type=np.array([1], np.uint16),
    ...     fcs_len=np.array([0], np.uint8),
    ... )
    >>> decode(chunk).columns["arp_opcode"].values.tolist()
    [1]
    """
    d = Dissection(chunk, columns)
    link(d, chunk.link_type)
    ethertype.walk(d)
    _put_offset(d, "network_offset", (d.next >= Next.ARP) & (d.next <= Next.IPV6))
    network(d)
    _put_offset(d, "transport_offset", d.next >= Next.OTHER_TRANSPORT)
    if d.wants("tunnel"):
        tunnel.over_ip(d)
    transport(d)
    if d.wants("tunnel"):
        tunnel.over_udp(d)
    if d.wants("flow_hash"):
        _put_flow_hash(d)
    return d.decoded(np.where(d.next >= Next.PAYLOAD, d.limit - d.at, 0))


def _put_offset(d: Dissection, column: str, there: NDArray[np.bool_]) -> None:
    """Where the next header starts in the packets where it is ``there``."""
    offset = d.at - d.start
    beyond = there & (offset > np.iinfo(np.uint16).max)
    d.irregular |= beyond
    d.put_chunk(there & ~beyond, **{column: offset})


def _put_flow_hash(d: Dissection) -> None:
    """``flow_hash`` of the packets whose addresses, protocol and ports are known."""
    version = d.found("ip_version")
    if version is None:
        return
    flow_hash = np.zeros(d.count, np.uint64)
    for number, endpoint, source, destination in (
        (4, hashes.ipv4_endpoint, ("ip_src",), ("ip_dst",)),
        (6, hashes.ipv6_endpoint, ("ipv6_src_hi", "ipv6_src_lo"), ("ipv6_dst_hi", "ipv6_dst_lo")),
    ):
        rows = np.flatnonzero(d.endpoints_known & (version == number))
        if rows.size:
            a, b = (
                endpoint(*(d.values(column, rows) for column in columns))
                for columns in ((*source, "src_port"), (*destination, "dst_port"))
            )
            flow_hash[rows] = hashes.flow(a, b, number, d.protocol[rows])
    d.put_chunk(d.endpoints_known, flow_hash=flow_hash)
