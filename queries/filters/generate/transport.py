"""Ports: of TCP, UDP and SCTP over IPv4 (of first fragments) and over IPv6 without extension headers."""

from __future__ import annotations

from collections.abc import Callable

from queries.filters.generate import numbers
from queries.filters.generate.bind import Ports
from queries.filters.generate.code import Check, Code, at_most, equal, every, no_bit, some
from queries.filters.generate.directions import by_direction, refuse_wlan_directions
from queries.filters.generate.link import carries
from queries.filters.generate.state import Size, State
from queries.filters.program import Constant, Load

_TCP, _UDP, _SCTP = 6, 17, 132
_ALL_TRANSPORTS = (_SCTP, _TCP, _UDP)  # the order in which they are asked for
_SOURCE, _DESTINATION = 0, 2
_FRAGMENT_OFFSET = 0x1FFF


def has_ports(state: State, ports: Ports, direction: str | None, kind: str) -> Code:
    """Whether a packet is from or to one of the ports (``kind``: port or portrange)."""
    over_ipv4 = _over_ipv4(state, ports, direction, kind)
    return some(_over_ipv6(state, ports, direction, kind), over_ipv4)


def is_first_fragment(state: State) -> Code:
    """Whether an IPv4 packet's fragment offset is 0."""
    return no_bit(state.network_load(6, 2), _FRAGMENT_OFFSET)


def is_to_udp_port_over_ipv4(state: State, port: int) -> Code:
    """Whether a packet is to that port of UDP over IPv4."""
    return _over_ipv4(state, Ports(port, port, _UDP), "dst", "port")


def is_to_udp_port_over_ipv6(state: State, port: int) -> Code:
    """Whether a packet is to that port of UDP over IPv6."""
    return _over_ipv6(state, Ports(port, port, _UDP), "dst", "port")


def _over_ipv4(state: State, ports: Ports, direction: str | None, kind: str) -> Code:
    def over(transport: int) -> Code:
        is_transport = equal(state.network_load(9, 1), transport)
        is_first = is_first_fragment(state)
        return every(is_transport, is_first, _compared(state.over_ipv4_load, ports, direction, kind))

    return every(carries(state, numbers.IP), _over_any(ports, over))


def _over_ipv6(state: State, ports: Ports, direction: str | None, kind: str) -> Code:
    def over(transport: int) -> Code:
        is_transport = equal(state.network_load(6, 1), transport)
        return every(is_transport, _compared(state.over_ipv6_load, ports, direction, kind))

    return every(carries(state, numbers.IP6), _over_any(ports, over))


def _over_any(ports: Ports, over: Callable[[int], Code]) -> Code:
    if ports.transport is not None:
        return over(ports.transport)
    return some(*(over(transport) for transport in _ALL_TRANSPORTS))


def _compared(load: Callable[[int, Size], Load], ports: Ports, direction: str | None, kind: str) -> Code:
    whose = "ports" if kind == "port" else "port ranges"
    refuse_wlan_directions(
        direction, f"not valid qualifiers for {whose}", f"not a valid qualifier for {whose}"
    )
    least, greatest = sorted((ports.first, ports.last))

    def there(offset: int) -> Code:
        if kind == "port":
            return equal(load(offset, 2), least)
        return every(Check(load(offset, 2), ">=", Constant(least)), at_most(load(offset, 2), greatest))

    return by_direction(direction, lambda: there(_SOURCE), lambda: there(_DESTINATION))
