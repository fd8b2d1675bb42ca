"""The decoder: from the octets of packets to the columns of the packet table.

:func:`decode` walks down the headers of all packets of a chunk at once, layer by layer: link, tags and
other headers that an EtherType leads to, network, transport.  It reads outermost headers only; a tunnel is
marked, not entered.
"""

from __future__ import annotations

import numpy as np

from pcap2arrow.layers import ethertype, hashes, tunnel
from pcap2arrow.layers.chunk import PAD, Chunk, Decoded, Values
from pcap2arrow.layers.dissection import Dissection, Next
from pcap2arrow.layers.link import link
from pcap2arrow.layers.network import network
from pcap2arrow.layers.transport import transport

__all__ = ["PAD", "Chunk", "Decoded", "Values", "decode"]


def decode(chunk: Chunk) -> Decoded:
    """Decode the packets of a chunk into columns.

    The result has the columns of the groups link, network, transport, decoding and grouping of
    :data:`pcap2arrow.schema.COLUMNS`, and ``payload_len``.
    """
    d = Dissection(chunk)
    link(d, chunk.link_type)
    ethertype.walk(d)
    _offset(d, "network_offset", (d.next >= Next.ARP) & (d.next <= Next.IPV6))
    network(d)
    _offset(d, "transport_offset", d.next >= Next.OTHER_TRANSPORT)
    tunnel.over_ip(d)
    transport(d)
    tunnel.over_udp(d)
    _flow_hash(d)
    return d.decoded(np.where(d.next >= Next.PAYLOAD, d.limit - d.at, 0))


def _offset(d: Dissection, column: str, there: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> None:
    """Where the next header starts in each packet, for a header that is there."""
    offsets = d.at - d.start
    beyond = there & (offsets > 0xFFFF)
    d.irregular |= beyond
    there &= ~beyond
    if there.any():
        d.put_chunk(there, **{column: offsets})


def _flow_hash(d: Dissection) -> None:
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
