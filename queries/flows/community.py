"""Community ID, version 1: a name for a flow that other tools make, too.

Source: the Community ID flow hashing specification, version 1 (github.com/corelight/community-id-spec).
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from functools import partial
from hashlib import sha1 as _sha1
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from queries.flows.packets import COUNTERPARTS

if TYPE_CHECKING:
    import polars as pl

_PREFIX = "1:"
_OF_IPV4, _OF_IPV6 = (
    np.dtype(
        [("seed", ">u2"), *ends, ("protocol", "u1"), ("zero", "u1"), ("a_port", ">u2"), ("b_port", ">u2")]
    )
    for ends in (
        [("a_lo", ">u4"), ("b_lo", ">u4")],
        [("a_hi", ">u8"), ("a_lo", ">u8"), ("b_hi", ">u8"), ("b_lo", ">u8")],
    )
)
"""What is hashed."""

sha1 = partial(_sha1, usedforsecurity=False)


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
    digest = sha1(packed).digest()
    return _PREFIX + base64.b64encode(digest).decode()


def community_ids(connections: pl.DataFrame, sides: tuple[str, str] = ("a", "b")) -> list[str]:
    """The Community IDs of rows with ``ip_version``, ``l4_proto``, and of both sides ``hi``, ``lo`` and ``port``."""
    ends = [
        [connections[f"{side}_{part}"].fill_null(0).to_numpy() for part in ("hi", "lo", "port")]
        for side in sides
    ]
    protocol = connections["l4_proto"].to_numpy()
    swapped = _is_less(ends[1], ends[0]) & ~_is_one_way(protocol, ends[0][2], ends[1][2])
    a, b = ([np.where(swapped, y, x) for x, y in zip(*pair, strict=True)] for pair in (ends, ends[::-1]))
    is_four = connections["ip_version"].to_numpy() == 4
    found = np.empty(len(connections), object)
    for rows, kind in ((np.flatnonzero(is_four), _OF_IPV4), (np.flatnonzero(~is_four), _OF_IPV6)):
        packed = np.zeros(len(rows), kind)
        packed["protocol"] = protocol[rows]
        for side, values in (("a", a), ("b", b)):
            for part, value in zip(("hi", "lo", "port"), values, strict=True):
                if f"{side}_{part}" in (kind.names or ()):
                    packed[f"{side}_{part}"] = value[rows]
        found[rows] = _digests(packed.tobytes(), kind.itemsize)
    return found.tolist()


def _is_less(end: Sequence[NDArray[Any]], other: Sequence[NDArray[Any]]) -> NDArray[np.bool_]:
    """Whether an address, then a port is less than another."""
    found = np.zeros(len(end[0]), np.bool_)
    for x, y in zip(end[::-1], other[::-1], strict=True):
        found = np.where(x == y, found, x < y)
    return found


def _is_one_way(protocol: NDArray[Any], port: NDArray[Any], other: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether ``port`` is a type of ICMP that none answers, so that ``other`` is its code."""
    found = np.zeros(len(protocol), np.bool_)
    for number, counterparts in COUNTERPARTS.items():
        answer = np.full(1 << 16, -1)
        answer[list(counterparts)] = list(counterparts.values())
        found |= (protocol == number) & (answer[port] != other)
    return found


def _digests(packed: bytes, size: int) -> list[str]:
    """The IDs of what is hashed, so many octets each; a digest and an octet more make 28 letters without a rest."""
    digests = (sha1(packed[at : at + size]).digest() for at in range(0, len(packed), size))
    written = base64.b64encode(b"".join(digest + b"\0" for digest in digests)).decode()
    return [f"{_PREFIX}{written[at : at + 27]}=" for at in range(0, len(written), 28)]
