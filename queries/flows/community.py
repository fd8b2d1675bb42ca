"""Community ID, version 1: a name for a flow that other tools make, too.

Source: the Community ID flow hashing specification, version 1 (github.com/corelight/community-id-spec).
"""

from __future__ import annotations

import base64
import hashlib
import struct
from functools import lru_cache
from typing import TYPE_CHECKING

from queries.flows.packets import COUNTERPARTS

if TYPE_CHECKING:
    import polars as pl

_PREFIX = "1:"
_RECENT = 1 << 10  # endpoints between which there are many connections in a row


def community_id(
    source: bytes,
    destination: bytes,
    ports: tuple[int, int],
    protocol: int,
    *,
    one_way: bool = False,
    seed: int = 0,
) -> str:
    """The Community ID of packets from ``source`` to ``destination``, addresses of 4 or 16 octets.

    It is the same for both directions, unless ``one_way``: ICMP's types without an answer, whose ``ports`` are type and
    code; of others they are the type and the type that answers it.

    >>> community_id(bytes([128, 232, 110, 120]), bytes([66, 35, 250, 204]), (34855, 80), 6)
    '1:LQU9qZlK+B5F3KDmev6m5PMibrg='
    """
    if not one_way and (destination, ports[1]) < (source, ports[0]):
        source, destination, ports = destination, source, (ports[1], ports[0])
    packed = (
        struct.pack(">H", seed) + source + destination + struct.pack(">BBHH", protocol, 0, ports[0], ports[1])
    )
    digest = hashlib.sha1(packed, usedforsecurity=False).digest()
    return _PREFIX + base64.b64encode(digest).decode()


def community_ids(connections: pl.DataFrame, sides: tuple[str, str] = ("a", "b")) -> list[str]:
    """The Community IDs of rows with ``ip_version``, ``l4_proto``, and of both sides ``hi``, ``lo`` and ``port``."""
    columns = (
        "ip_version",
        "l4_proto",
        *(f"{side}_{part}" for part in ("hi", "lo", "port") for side in sides),
    )
    of_row = lru_cache(_RECENT)(_of_row)
    return [of_row(*row) for row in connections.select(columns).iter_rows()]


def _of_row(
    version: int, protocol: int, hi: int, other_hi: int, lo: int, other_lo: int, port: int, other_port: int
) -> str:
    one_way = protocol in COUNTERPARTS and COUNTERPARTS[protocol].get(port) != other_port
    ends = _packed(version, hi, lo), _packed(version, other_hi, other_lo)
    return community_id(*ends, (port, other_port), protocol, one_way=one_way)


def _packed(version: int, high: int, low: int) -> bytes:
    return low.to_bytes(4, "big") if version == 4 else (high << 64 | low).to_bytes(16, "big")
