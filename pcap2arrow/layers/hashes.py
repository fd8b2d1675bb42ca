"""``flow_hash`` and ``frag_key``: hashes that depend on a packet alone, and whose definition never changes.

All arithmetic is modulo 2^64.  ``mix`` is the finaliser of SplitMix64 (Steele, Lea, Flood: Fast Splittable
Pseudorandom Number Generators, 2014; the constants are those of its reference implementation)::

    mix(x):  x += 0x9e3779b97f4a7c15
             x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9
             x = (x ^ x >> 27) * 0x94d049bb133111eb
             return x ^ x >> 31

``flow_hash`` of a packet between the endpoints A and B, where the ports are 0 for protocols without ports
and in later fragments, and ``|`` joins numbers of a fixed width, the first one uppermost::

    flow_hash       = mix((endpoint(A) + endpoint(B)) ^ (version << 8 | l4_proto))
    endpoint (IPv4) = mix(address << 16 | port)
    endpoint (IPv6) = mix(mix(mix(upper 64 bits) ^ lower 64 bits) ^ port)

The sum makes it the same for both directions.  ``frag_key`` of a fragment::

    IPv4: mix(mix(source << 32 | destination) ^ (id << 8 | protocol)) IPv6: mix(mix(mix(mix(mix(source,
    upper) ^ source, lower) ^ destination, upper) ^ destination, lower) ^ id)

IPv6's leaves the protocol out, because only the first fragment's counts (RFC 8200, 4.5).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]


def mix(words: Words) -> Words:
    """SplitMix64's finaliser of each word."""
    x = words + np.uint64(0x9E3779B97F4A7C15)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def ipv4_endpoint(address: NDArray[np.uint32], port: NDArray[np.uint16]) -> Words:
    """Hash of an IPv4 address and a port."""
    return mix(address.astype(np.uint64) << np.uint64(16) | port)


def ipv6_endpoint(hi: Words, lo: Words, port: NDArray[np.uint16]) -> Words:
    """Hash of an IPv6 address and a port."""
    return mix(mix(mix(hi) ^ lo) ^ port)


def flow(a: Words, b: Words, version: int, protocol: NDArray[np.uint8]) -> Words:
    """``flow_hash`` from the hashes of both endpoints."""
    return mix((a + b) ^ (protocol | np.uint64(version << 8)))


def ipv4_fragment(
    source: NDArray[np.uint32],
    destination: NDArray[np.uint32],
    identification: NDArray[np.uint16],
    protocol: NDArray[np.uint8],
) -> Words:
    """``frag_key`` of IPv4 fragments."""
    addresses = source.astype(np.uint64) << np.uint64(32) | destination
    return mix(mix(addresses) ^ (identification.astype(np.uint64) << np.uint64(8) | protocol))


def ipv6_fragment(addresses: Sequence[Words], identification: NDArray[np.uint32]) -> Words:
    """``frag_key`` of IPv6 fragments; ``addresses`` are the four halves in the order of the header."""
    state = mix(addresses[0])
    for half in addresses[1:]:
        state = mix(state ^ half)
    return mix(state ^ identification)
