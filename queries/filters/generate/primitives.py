"""Conditions that are no identifiers, by their words."""

from __future__ import annotations

from collections.abc import Callable

from pcap2arrow.errors import FilterError
from queries.filters.generate import capture, link_hosts, network, numbers, shifts, signalling, wlan
from queries.filters.generate.code import (
    ALWAYS,
    Check,
    Code,
    Inverse,
    above,
    at_most,
    equal,
    every,
    no_bit,
)
from queries.filters.generate.link import carries, is_wlan_data
from queries.filters.generate.state import State
from queries.filters.language.terms import Primitive
from queries.filters.program import Arithmetic, Constant, WireLength

_ETHERNET, _ALWAYS_LLC = 1, (6, 10, 11)
_SUPERVISORY = {"rr": 0x01, "rnr": 0x05, "rej": 0x09}
_UNNUMBERED = {
    "ui": 0x03,
    "ua": 0x63,
    "disc": 0x43,
    "dm": 0x0F,
    "sabme": 0x6F,
    "test": 0xE3,
    "xid": 0xAF,
    "frmr": 0x87,
}
_FORMATS = {
    **{"s": (0x01, 0x03), "u": (0x03, 0x03)},
    **{name: (number, 0x0F) for name, number in _SUPERVISORY.items()},
    **{name: (number, 0xEF) for name, number in _UNNUMBERED.items()},
}
"""The bits that a frame's control octet has, and which ones are looked at."""

_CONTROL_AT = 2


def is_condition(state: State, primitive: Primitive) -> Code:
    """The test for a condition."""
    word, protocol, arguments = primitive.word, primitive.protocol, primitive.arguments
    if word == "broadcast":
        return _is_broadcast(state, protocol)
    if word == "multicast":
        return _is_multicast(state, protocol)
    return _TESTS[word](state, *arguments)


def _is_broadcast(state: State, protocol: str | None) -> Code:
    if protocol in (None, "link"):
        return link_hosts.is_broadcast(state)
    if protocol == "ip":
        return network.is_ip_broadcast(state)
    raise FilterError("only link-layer/IP broadcast filters supported")


def _is_multicast(state: State, protocol: str | None) -> Code:
    if protocol in (None, "link"):
        return link_hosts.is_multicast(state)
    if protocol == "ip":
        return network.is_ip_multicast(state)
    if protocol == "ip6":
        return network.is_ip6_multicast(state)
    raise link_hosts.no_multicast()


def _is_at_most(_: State, length: int) -> Code:
    return at_most(WireLength(), length)


def _is_at_least(_: State, length: int) -> Code:
    return Check(WireLength(), ">=", Constant(length))


def _is_byte(state: State, index: int, relation: str, value: int) -> Code:
    """An octet of the link header; with & and | libpcap does not load it, but takes what it has loaded last."""
    if relation in ("&", "|"):
        return Inverse(Check(Arithmetic(relation, state.accumulator(), Constant(value)), "=", Constant(0)))
    octet = state.link_load(index, 1)
    if relation == "<":
        return Inverse(Check(octet, ">=", Constant(value)))
    return above(octet, value) if relation == ">" else equal(octet, value)


def _is_llc(state: State, form: str | None = None) -> Code:
    """LLC frames, all or of a format."""
    if form is None:
        return _has_llc(state)
    name = form.lower()
    if name == "i":
        return every(_has_llc(state), no_bit(state.payload_load(_CONTROL_AT, 1), 0x01))
    if name not in _FORMATS:
        raise FilterError(f'unknown LLC type name "{form}"')
    return every(_has_llc(state), equal(state.payload_load(_CONTROL_AT, 1), *_FORMATS[name]))


def _has_llc(state: State) -> Code:
    if state.link.number == _ETHERNET:
        has_length = at_most(state.type_load(0, 2), numbers.LARGEST_LENGTH)
        return every(has_length, Inverse(equal(state.payload_load(0, 2), 0xFFFF)))
    if state.link.family == "sunatm":
        return signalling.is_llc(state)
    if state.link.number in _ALWAYS_LLC:
        return ALWAYS
    if state.link.is_wlan:
        return is_wlan_data(state)
    raise FilterError(f"'llc' not supported for {state.link.name}")


def _optional(test: Callable[[State, int | None], Code]) -> Callable[..., Code]:
    return lambda state, number=None: test(state, number)


_TESTS: dict[str, Callable[..., Code]] = {
    "less": _is_at_most,
    "greater": _is_at_least,
    "byte": _is_byte,
    "inbound": capture.is_inbound,
    "outbound": capture.is_outbound,
    "ifindex": capture.is_interface,
    "vlan": _optional(shifts.is_vlan),
    "mpls": _optional(shifts.is_mpls),
    "pppoes": _optional(shifts.is_pppoe_session),
    "geneve": _optional(shifts.is_geneve),
    "pppoed": lambda state: carries(state, numbers.PPPOE_DISCOVERY),
    "llc": _is_llc,
    "type": wlan.is_type,
    "subtype": wlan.is_subtype,
    "dir": wlan.is_direction,
    **{word: capture.has_logged_name(word) for word in ("ifname", "rset")},
    **{word: capture.has_logged_number(word) for word in ("rnr", "srnr")},
    "reason": capture.has_reason,
    "action": capture.has_action,
    **{word: signalling.is_of_circuit(word) for word in signalling.CIRCUITS},
    **{word: signalling.is_maintenance(word) for word in ("oam", "oamf4")},
    **{word: signalling.is_connection(word) for word in ("connectmsg", "metaconnect")},
    "lane": signalling.is_lane,
    **{word: signalling.has_atm_field(word) for word in ("vpi", "vci")},
    **{word: signalling.is_unit(word) for word in signalling.UNITS},
    **{word: signalling.has_ss7_field(word) for word in signalling.FIELDS},
}
