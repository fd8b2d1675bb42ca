"""What a link header says that it carries: the test for a protocol, of each family of link types.

A protocol is an EtherType, or up to 1500 an LLC service access point, as in gen_linktype of libpcap 1.10.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pcap2arrow.errors import FilterError
from queries.filters.generate import llc, numbers
from queries.filters.generate.code import (
    ALWAYS,
    NEVER,
    Check,
    Code,
    Inverse,
    any_bit,
    at_most,
    equal,
    every,
    no_bit,
    some,
)
from queries.filters.generate.state import State
from queries.filters.program import Load

_AF_INET, _AF_INET6 = 2, 10
_AF_INET6_OF_SYSTEMS = (30, 24, 28)
_IPNET_NUMBERS = {numbers.IP: (2,), numbers.IP6: (26,)}
_FRAME_RELAY_NUMBERS = {
    numbers.IP: (0x03CC,),
    numbers.IP6: (0x038E,),
    numbers.LLC_ISO: (0x0381, 0x0382, 0x0383),
}
_ARCNET_NUMBERS = {
    numbers.IP: (0xD4, 0xF0),
    numbers.ARP: (0xD5, 0xF1),
    numbers.RARP: (0xD6,),
    numbers.ATALK: (0xDD,),
    numbers.IP6: (0xC4,),
}
_PFLOG_NUMBERS = {numbers.IP: (_AF_INET,), numbers.IP6: (_AF_INET6,)}
_PFLOG_FAMILY_AT = 1
_SLL_RAW_IPX, _SLL_LLC = 1, 4
_ATM_LLC = 2
_ATM_HEADER, _LANE_CONTROL = 4, 0xFF00
_LOOP = 108


def carries(state: State, protocol: int) -> Code:
    """Whether the link header says that its payload is of a protocol.

    Raises :class:`FilterError` where the link type does not tell, or where tests for it are not possible.
    """
    known = state.carried()
    if protocol not in known:
        known[protocol] = _carries(state, protocol)
    return known[protocol]


def _carries(state: State, protocol: int) -> Code:
    if state.labels:
        return _after_labels(state, protocol)
    family = state.link.family
    if family in _TESTS:
        return _TESTS[family](state, protocol)
    raise FilterError(
        f"{_UNTESTED.get(family, family or state.link.name)} link-layer type filtering not implemented"
    )


def inside(state: State, code: Code) -> Code:
    """A test of a link header that may stand inside of other headers: whether it is there, and the test."""
    if state.in_geneve:
        # without Ethernet inside, the payload starts where the Ethernet header would
        header, payload = state.variable(state.header), state.variable(state.payload)
        assert header is not None
        assert payload is not None
        return every(Inverse(Check(header, "=", payload)), code)
    if state.previous.family == "sunatm":
        return every(Inverse(equal(state.load(state.previous_header, _ATM_HEADER, 2), _LANE_CONTROL)), code)
    return code


def is_wlan_data(state: State) -> Code:
    """Whether an 802.11 frame is a data frame."""
    return every(no_bit(state.link_load(0, 1), 0x04), any_bit(state.link_load(0, 1), 0x08))


def is_llc_over_atm(state: State) -> Code:
    """Whether the ATM pseudo-header says that LLC follows."""
    return equal(state.link_load(0, 1), _ATM_LLC, 0x0F)


def _after_labels(state: State, protocol: int) -> Code:
    """After MPLS labels: whether the last one says so, and the version of IP."""
    if protocol not in (numbers.IP, numbers.IP6):
        raise FilterError("unsupported protocol over mpls")
    is_last = equal(state.network_load(-2, 1), 0x01, 0x01)
    version = 0x40 if protocol == numbers.IP else 0x60
    return every(is_last, equal(state.network_load(0, 1), version, 0xF0))


def _ethernet(state: State, protocol: int) -> Code:
    test = _type_or_length(state, protocol)
    return test if state.in_geneve else inside(state, test)


def _type_or_length(state: State, protocol: int) -> Code:
    if protocol in numbers.LLC_BOTH_POINTS:
        return every(_has_length(state), llc.is_between(state, protocol))
    if protocol == numbers.LLC_IPX:
        raw_or_llc = some(llc.is_to(state, protocol), equal(state.payload_load(0, 2), 0xFFFF))
        ipx = some(llc.is_snap(state, numbers.IPX), raw_or_llc)
        return some(_ethertype(state, numbers.IPX), every(_has_length(state), ipx))
    if protocol in (numbers.ATALK, numbers.AARP):
        return some(_ethertype(state, protocol), every(_has_length(state), llc.is_snap(state, protocol)))
    if protocol <= numbers.LARGEST_LENGTH:
        return every(_has_length(state), equal(state.type_load(2, 1), protocol))
    return _ethertype(state, protocol)


def _has_length(state: State) -> Code:
    """Whether Ethernet's type field is a length, and an LLC header follows."""
    return at_most(state.type_load(0, 2), numbers.LARGEST_LENGTH)


def _sll(state: State, protocol: int) -> Code:
    if protocol in numbers.LLC_BOTH_POINTS:
        return every(_ethertype(state, _SLL_LLC), llc.is_between(state, protocol))
    if protocol == numbers.LLC_IPX:
        ipx = some(llc.is_to(state, protocol), llc.is_snap(state, numbers.IPX))
        raw = _ethertype(state, _SLL_RAW_IPX)
        return some(_ethertype(state, numbers.IPX), raw, every(_ethertype(state, _SLL_LLC), ipx))
    if protocol in (numbers.ATALK, numbers.AARP):
        snap = every(_ethertype(state, _SLL_LLC), llc.is_snap(state, protocol))
        return some(_ethertype(state, protocol), snap)
    if protocol <= numbers.LARGEST_LENGTH:
        is_protocol = equal(state.link_load(state.payload.constant, 1), protocol)
        return every(_ethertype(state, _SLL_LLC), is_protocol)
    return _ethertype(state, protocol)


def _wlan(state: State, protocol: int) -> Code:
    return every(is_wlan_data(state), llc.carries(state, protocol))


def _sunatm(state: State, protocol: int) -> Code:
    return every(is_llc_over_atm(state), llc.carries(state, protocol))


def _ethertype(state: State, protocol: int) -> Code:
    return equal(state.type_load(0, 2), protocol)


def _hdlc(state: State, protocol: int) -> Code:
    if protocol == numbers.LLC_ISO:
        protocol = numbers.LLC_ISO << 8 | numbers.LLC_ISO
    return equal(state.type_load(0, 2), protocol)


def _ppp(state: State, protocol: int) -> Code:
    return equal(state.type_load(0, 2), numbers.ppp_number(protocol))


def _ppp_bsdos(state: State, protocol: int) -> Code:
    if protocol == numbers.IP:
        return some(
            *(equal(state.type_load(0, 2), each) for each in (numbers.PPP_IP, *numbers.PPP_COMPRESSED_IP))
        )
    return _ppp(state, protocol)


def _raw(state: State, protocol: int) -> Code:
    if protocol in (numbers.IP, numbers.IP6):
        return equal(state.link_load(0, 1), 0x40 if protocol == numbers.IP else 0x60, 0xF0)
    return NEVER


def _ipv4(_: State, protocol: int) -> Code:
    return ALWAYS if protocol == numbers.IP else NEVER


def _ipv6(_: State, protocol: int) -> Code:
    return ALWAYS if protocol == numbers.IP6 else NEVER


def _loopback(state: State, protocol: int) -> Code:
    """The address family, in the byte order of the machine that wrote the savefile, or always in a network's."""
    families = {numbers.IP: (_AF_INET,), numbers.IP6: _AF_INET6_OF_SYSTEMS}.get(protocol, ())
    is_big_endian = state.swapped or state.link.number == _LOOP
    words = (family if is_big_endian else family << 24 for family in families)
    return _is_any(lambda: state.link_load(0, 4), words)


def _arcnet(state: State, protocol: int) -> Code:
    return _is_any(lambda: state.type_load(0, 1), _ARCNET_NUMBERS.get(protocol, ()))


def _ipnet(state: State, protocol: int) -> Code:
    return _is_any(lambda: state.type_load(0, 1), _IPNET_NUMBERS.get(protocol, ()))


def _frame_relay(state: State, protocol: int) -> Code:
    return _is_any(lambda: state.link_load(2, 2), _FRAME_RELAY_NUMBERS.get(protocol, ()))


def _pflog(state: State, protocol: int) -> Code:
    return _is_any(lambda: state.link_load(_PFLOG_FAMILY_AT, 1), _PFLOG_NUMBERS.get(protocol, ()))


def _is_any(load: Callable[[], Load], values: Iterable[int]) -> Code:
    checks = [equal(load(), value) for value in values]
    return some(*checks) if checks else NEVER


def _localtalk(_: State, protocol: int) -> Code:
    return ALWAYS if protocol == numbers.ATALK else NEVER


def _juniper(state: State, _: int) -> Code:
    return equal(state.link_load(0, 4), 0x4D474300, 0xFFFFFF00)


def _bacnet(state: State, _: int) -> Code:
    return equal(state.link_load(0, 4), 0x55FF0000, 0xFFFF0000)


_TESTS: dict[str, Callable[[State, int], Code]] = {
    "ethernet": _ethernet,
    "sll": _sll,
    "ethertype": _ethertype,
    "hdlc": _hdlc,
    "wlan": _wlan,
    "llc": llc.carries,
    "sunatm": _sunatm,
    "ppp": _ppp,
    "ppp-bsdos": _ppp_bsdos,
    "raw": _raw,
    "ipv4": _ipv4,
    "ipv6": _ipv6,
    "loopback": _loopback,
    "arcnet": _arcnet,
    "ipnet": _ipnet,
    "frelay": _frame_relay,
    "pflog": _pflog,
    "localtalk": _localtalk,
    "juniper": _juniper,
    "bacnet": _bacnet,
}
_UNTESTED = {"mfr": "Multi-link Frame Relay"}
