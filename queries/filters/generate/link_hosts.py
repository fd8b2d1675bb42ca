"""Addresses of link headers: hosts, broadcast and multicast of Ethernet and of those that are like it."""

from __future__ import annotations

from collections.abc import Mapping

from pcap2arrow.errors import FilterError
from queries.filters.generate import wlan
from queries.filters.generate.code import Code, any_bit, equal
from queries.filters.generate.directions import by_direction, refuse_wlan_directions
from queries.filters.generate.link import inside
from queries.filters.generate.state import State

_TOKEN_RING, _FDDI, _FIBRE_CHANNEL = 6, 10, 122
_DESTINATIONS: Mapping[int, tuple[int, int]] = {_TOKEN_RING: (2, 8), _FDDI: (1, 7), _FIBRE_CHANNEL: (2, 10)}
"""Places of the destination's and the source's address, by link type."""

_BROADCAST = b"\xff" * 6
_NAMES = {_TOKEN_RING: "token ring", _FDDI: "FDDI", _FIBRE_CHANNEL: "Fibre Channel"}
_WITH_ADDRESSES = "ethernet/FDDI/token ring/802.11/ATM LANE/Fibre Channel"
_MULTICAST_LINKS = "ethernet/FDDI/token ring/ARCNET/802.11/ATM LANE/Fibre Channel"


def kind_of_host(state: State) -> str:
    """What libpcap calls a host of the link type; raises where it has no names for hosts."""
    if state.link.is_ethernet:
        return "ether"
    if state.link.is_wlan:
        return "802.11"
    if state.link.number in _NAMES:
        return _NAMES[state.link.number]
    raise FilterError(f"only {_WITH_ADDRESSES} supports link-level host name")


def is_host(state: State, address: bytes, direction: str | None) -> Code:
    """Whether a frame is from or to an address of six octets."""
    if state.link.is_wlan:
        return wlan.is_host(state, address, direction)
    if state.link.is_ethernet:
        refuse_wlan_directions(direction, "only supported on 802.11 with 802.11 headers")
        return inside(state, _is_at(state, address, direction, 0, 6))
    if state.link.number in _DESTINATIONS:
        refuse_wlan_directions(direction, "only supported on 802.11")
        return _is_at(state, address, direction, *_DESTINATIONS[state.link.number])
    raise FilterError(f"ethernet addresses supported only on {_WITH_ADDRESSES}")


def is_arcnet_host(state: State, address: int, direction: str | None) -> Code:
    """Whether an ARCNET frame is from or to an address."""
    refuse_wlan_directions(direction, "only supported on 802.11")
    return by_direction(
        direction,
        lambda: equal(state.link_load(0, 1), address),
        lambda: equal(state.link_load(1, 1), address),
    )


def is_broadcast(state: State) -> Code:
    """Whether a frame is to all hosts on its link."""
    if state.link.family == "arcnet":
        return is_arcnet_host(state, 0, "dst")
    if state.link.is_ethernet or state.link.is_wlan or state.link.number in _DESTINATIONS:
        return is_host(state, _BROADCAST, "dst")
    raise FilterError("not a broadcast link")


def is_multicast(state: State) -> Code:
    """Whether a frame is to a group of hosts on its link."""
    if state.link.family == "arcnet":
        return is_arcnet_host(state, 0, "dst")
    if state.link.is_wlan:
        return wlan.is_multicast(state)
    if state.link.is_ethernet:
        return inside(state, any_bit(state.link_load(0, 1), 1))
    if state.link.number in _DESTINATIONS:
        return any_bit(state.link_load(_DESTINATIONS[state.link.number][0], 1), 1)
    raise no_multicast()


def no_multicast() -> FilterError:
    """The error for whatever has no multicast."""
    return FilterError(f"link-layer multicast filters supported only on {_MULTICAST_LINKS}")


def _is_at(state: State, address: bytes, direction: str | None, destination: int, source: int) -> Code:
    return by_direction(
        direction,
        lambda: state.has_octets(state.header, source, address),
        lambda: state.has_octets(state.header, destination, address),
    )
