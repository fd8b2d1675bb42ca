"""Protocols: their names alone, numbers after ``proto``, and chains of IPv6's and IPv4's headers."""

from __future__ import annotations

from collections.abc import Callable

from pcap2arrow.errors import FilterError
from queries.filters.generate import numbers
from queries.filters.generate.code import Check, Code, equal, every, some
from queries.filters.generate.link import carries
from queries.filters.generate.state import State
from queries.filters.language import names
from queries.filters.program import ChainEnd, Constant

_FRAGMENT_HEADER = 44
_ISIS_TYPE_AT = 4
_ENCAPSULATE_NOTHING = {
    "arp": "arp",
    "rarp": "rarp",
    "lat": "LAT",
    "sca": "SCA",
    "moprc": "MOPRC",
    "mopdl": "MOPDL",
}
_NOT_SPECIFIABLE = {"atalk": "AppleTalk", "decnet": "DECNET"}


def is_protocol(state: State, name: str) -> Code:
    """Whether a packet is of the protocol of that name."""
    for number in (names.ether_type(name), names.llc_sap(name)):
        if number is not None:
            return carries(state, number)
    if name in numbers.IP_PROTOCOLS:
        return is_numbered(state, *numbers.IP_PROTOCOLS[name])
    osi_number = names.osi_protocol(name)
    if osi_number is not None:
        return is_numbered(state, osi_number, "iso")
    if name in numbers.ISIS_PACKETS:
        return some(*(is_numbered(state, kind, "isis") for kind in numbers.ISIS_PACKETS[name]))
    if name == "link":
        raise FilterError("link layer applied in wrong context")
    raise FilterError(f"'{name}' is not a valid protocol type")


def is_numbered(state: State, number: int, protocol: str | None) -> Code:
    """Whether a protocol's header (None: that of IPv4 or IPv6) says that another one, of that number, follows."""
    if protocol in _NUMBERED:
        return _NUMBERED[protocol](state, number)
    if protocol in _ENCAPSULATE_NOTHING:
        raise FilterError(f"{_ENCAPSULATE_NOTHING[protocol]} does not encapsulate another protocol")
    if protocol in _NOT_SPECIFIABLE:
        raise FilterError(f"{_NOT_SPECIFIABLE[protocol]} encapsulation is not specifiable")
    raise FilterError(f"'{protocol} proto' is {'not supported' if protocol == 'clnp' else 'bogus'}")


def is_in_chain(state: State, number: int, protocol: str | None) -> Code:
    """Whether a protocol is met on the way along the headers of ``ip`` or ``ip6`` (None: either one)."""
    register = state.registers.take()
    if protocol is None:
        return some(is_in_chain(state, number, "ip"), is_in_chain(state, number, "ip6"))
    if protocol not in ("ip", "ip6"):
        raise FilterError("bad protocol applied for 'protochain'")
    if state.payload.variable is not None:
        raise FilterError("'protochain' not supported with variable length headers")
    is_ip = carries(state, numbers.IP if protocol == "ip" else numbers.IP6)
    start = Constant(state.payload.constant + state.network & 0xFFFF_FFFF)
    chain = ChainEnd(4 if protocol == "ip" else 6, start, number)
    state.registers.give(register)
    return every(is_ip, Check(chain, "=", Constant(1), accumulator=Constant(number)))


def _over_either_ip(state: State, number: int) -> Code:
    return some(_over_ipv4(state, number), _over_ipv6(state, number))


def _over_ipv4(state: State, number: int) -> Code:
    return every(carries(state, numbers.IP), equal(state.network_load(9, 1), number))


def _over_ipv6(state: State, number: int) -> Code:
    """The protocol is the next header, or the one after a fragment header."""
    is_ipv6 = carries(state, numbers.IP6)
    is_fragment = equal(state.network_load(6, 1), _FRAGMENT_HEADER)
    after_fragment = every(is_fragment, equal(state.network_load(40, 1), number))
    return every(is_ipv6, some(equal(state.network_load(6, 1), number), after_fragment))


def _over_osi(state: State, number: int) -> Code:
    if state.link.family == "frelay":
        return equal(state.link_load(2, 2), 0x0300 | number)
    if state.link.family == "hdlc":  # with a filler before
        return every(
            carries(state, numbers.LLC_ISO << 8 | numbers.LLC_ISO),
            equal(state.llc_network_load(1, 1), number),
        )
    return every(carries(state, numbers.LLC_ISO), equal(state.llc_network_load(0, 1), number))


def _over_isis(state: State, kind: int) -> Code:
    is_isis = _over_osi(state, numbers.OSI_ISIS)
    return every(is_isis, equal(state.llc_network_load(_ISIS_TYPE_AT, 1), kind))


_NUMBERED: dict[str | None, Callable[[State, int], Code]] = {
    None: _over_either_ip,
    "ip": _over_ipv4,
    "ip6": _over_ipv6,
    "link": carries,
    "iso": _over_osi,
    "isis": _over_isis,
}
