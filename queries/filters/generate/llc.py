"""LLC headers: what they carry, and the formats of frames that ``llc`` asks for."""

from __future__ import annotations

from queries.filters.generate import numbers
from queries.filters.generate.code import Code, equal
from queries.filters.generate.state import State

_SNAP = bytes.fromhex("aaaa03")
_APPLE, _ENCAPSULATED_ETHERNET = bytes.fromhex("080007"), bytes(3)
_SNAP_TYPE_AT = 6


def carries(state: State, protocol: int) -> Code:
    """Whether an LLC header, which is there on every frame, says that it carries a protocol."""
    if protocol in numbers.LLC_BOTH_POINTS:
        return is_between(state, protocol)
    if protocol == numbers.ATALK:
        return is_snap(state, protocol)
    if protocol <= numbers.LARGEST_LENGTH:
        return is_to(state, protocol)
    return equal(state.payload_load(_SNAP_TYPE_AT, 2), protocol)


def is_to(state: State, point: int) -> Code:
    """Whether that is the destination service access point."""
    return equal(state.payload_load(0, 1), point)


def is_between(state: State, point: int) -> Code:
    """Whether that is the service access point on both sides."""
    return equal(state.payload_load(0, 2), point << 8 | point)


def is_snap(state: State, ethertype: int) -> Code:
    """Whether there is a SNAP header with that EtherType."""
    organization = _APPLE if ethertype == numbers.ATALK else _ENCAPSULATED_ETHERNET
    return state.has_octets(state.payload, 0, _SNAP + organization + ethertype.to_bytes(2))
