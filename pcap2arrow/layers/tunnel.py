"""The column ``tunnel``: which kind of tunnel, if any, starts after the outermost headers.

========  ==========================================================================================
GRE       protocol 47
IPV4      protocol 4
IPV6      protocol 41
ETHERIP   protocol 97
L2TPV3    protocol 115
MPLS      protocol 137
VXLAN     UDP to port 4789, first octet with the bit I (RFC 7348)
GENEVE    UDP to port 6081, version 0 (RFC 8926)
GTP_U     UDP to port 2152, version 1, GTP and not GTP', message type G-PDU (3GPP TS 29.281)
L2TP      UDP from or to port 1701, a data message of version 2 or 3 (RFC 2661, RFC 3931)
========  ==========================================================================================

Protocols are those of ``l4_proto``, not in later fragments.  The tunnels over UDP need the first 8 octets
of their header (L2TP: 6), so the column is null where those are cut.
"""

from __future__ import annotations

import numpy as np

from pcap2arrow.layers.dissection import Dissection, Next, table
from pcap2arrow.numbers import IPProtocol, Tunnel, TunnelPort

HEADER = np.dtype([("first", "u1"), ("second", "u1"), ("rest", "V6")])

TUNNEL_OF_PROTOCOL = table(
    256,
    [
        (IPProtocol.GRE, Tunnel.GRE),
        (IPProtocol.IPV4, Tunnel.IPV4),
        (IPProtocol.IPV6, Tunnel.IPV6),
        (IPProtocol.ETHERIP, Tunnel.ETHERIP),
        (IPProtocol.L2TP, Tunnel.L2TPV3),
        (IPProtocol.MPLS, Tunnel.MPLS),
    ],
)
TUNNEL_OF_DESTINATION = table(
    1 << 16, [(TunnelPort[t.name], t) for t in (Tunnel.VXLAN, Tunnel.GENEVE, Tunnel.GTP_U)]
)
G_PDU = 255


def over_ip(d: Dissection) -> None:
    """Tunnels that IP carries at once; to be called when the transport headers come next."""
    kinds = TUNNEL_OF_PROTOCOL.take(d.protocol)
    rows = np.flatnonzero((kinds != 0) & (d.next == Next.OTHER_TRANSPORT))
    d.put_rows(rows, tunnel=kinds[rows])


def over_udp(d: Dissection) -> None:
    """Tunnels that UDP carries; to be called behind the transport headers."""
    source, destination = d.found("src_port"), d.found("dst_port")
    if source is None or destination is None:
        return
    l2tp = (source == TunnelPort.L2TP) | (destination == TunnelPort.L2TP)
    kinds = TUNNEL_OF_DESTINATION.take(destination)
    candidates = (kinds != 0) | l2tp
    candidates &= (d.protocol == IPProtocol.UDP) & (d.next == Next.PAYLOAD)
    rows = np.flatnonzero(candidates)
    if not rows.size:
        return
    headers = d.read(rows, HEADER)
    first, second, kinds = headers.fields["first"], headers.fields["second"], kinds[rows]
    is_tunnel = (kinds == Tunnel.VXLAN) & (first & 0x08 != 0)
    is_tunnel |= (kinds == Tunnel.GENEVE) & (first >> 6 == 0)
    is_tunnel |= (kinds == Tunnel.GTP_U) & (first & 0xF0 == 0x30) & (second == G_PDU)
    is_tunnel &= headers.room >= HEADER.itemsize
    # First two octets of L2TP: T L x x S x O P x x x x Ver (4 bits); T is 0 in data messages, x always.
    data_message = (first & 0xB4 == 0) & ((second == 2) | (second == 3))
    is_l2tp = l2tp[rows] & ~is_tunnel & data_message & (headers.room >= 6)
    d.put_rows(rows[is_tunnel | is_l2tp], tunnel=np.where(is_l2tp, Tunnel.L2TP, kinds)[is_tunnel | is_l2tp])
