"""What captures say of their packets beside their octets: direction, interface, and pf's log."""

from __future__ import annotations

from collections.abc import Callable

from pcap2arrow.errors import FilterError
from queries.filters.generate.code import Check, Code, Inverse, equal
from queries.filters.generate.state import State
from queries.filters.program import Constant

_SLIP, _SLL, _SLL2, _PFLOG, _IPNET, _PPPD = 8, 113, 276, 117, 226, 166
_OUTGOING = 4
_PFLOG_NAMES = {"ifname": (4, 16, "ifname interface"), "rset": (20, 16, "ruleset")}
_PFLOG_NUMBERS = {"rnr": 36, "srnr": 40}
_PFLOG_ACTION_AT, _PFLOG_REASON_AT, _PFLOG_DIRECTION_AT = 2, 3, 60
_ACTIONS = {
    **{"pass": 0, "accept": 0, "drop": 1, "block": 1, "scrub": 2, "noscrub": 3, "nat": 4, "nonat": 5},
    **{"binat": 6, "nobinat": 7, "rdr": 8, "nordr": 9, "synproxy-drop": 10},
}
_REASONS = (
    *("match", "bad-offset", "fragment", "short", "normalize", "memory", "bad-timestamp", "congestion"),
    *("ip-option", "proto-cksum", "state-mismatch", "state-insert", "state-limit", "src-limit", "synproxy"),
)


def is_inbound(state: State) -> Code:
    """``inbound``: whether the capturing host received the packet."""
    return _has_direction(state, outbound=False)


def is_outbound(state: State) -> Code:
    """``outbound``: whether the capturing host sent the packet."""
    return _has_direction(state, outbound=True)


def _has_direction(state: State, *, outbound: bool) -> Code:
    number = state.link.number
    if number in (_SLL, _SLL2):
        load = state.link_load(0, 2) if number == _SLL else state.link_load(10, 1)
        return equal(load, _OUTGOING) if outbound else Inverse(equal(load, _OUTGOING))
    if number == _SLIP:
        is_received = Check(state.link_load(0, 1), "=", Constant(0))
        return Inverse(is_received) if outbound else is_received
    if number == _PPPD:
        return equal(state.link_load(0, 1), int(outbound))
    if number == _IPNET:
        return equal(state.link_load(2, 2), 1 if outbound else 2)
    if number == _PFLOG:
        return equal(state.link_load(_PFLOG_DIRECTION_AT, 1), 2 if outbound else 1)
    if state.link.family == "juniper":
        return equal(state.link_load(3, 1), int(not outbound), 0x01)
    raise FilterError(f"inbound/outbound not supported on {state.link.name} when reading savefiles")


def is_interface(state: State, number: int) -> Code:
    """``ifindex``: whether the packet is of the interface of that number."""
    if state.link.number == _SLL2:
        return equal(state.link_load(4, 4), number)
    raise FilterError(f"ifindex not supported on {state.link.name} when reading savefiles")


def has_logged_name(word: str) -> Callable[[State, str], Code]:
    """``ifname`` and ``rset``: the names of interface and rule set in a record of pf's log."""

    def test(state: State, name: str) -> Code:
        offset, size, what = _PFLOG_NAMES[word]
        _require_pflog(state, "ruleset" if word == "rset" else word)
        octets = name.encode(errors="surrogateescape")
        if len(octets) >= size:
            raise FilterError(f"{what} names can only be {size - 1} characters")
        return state.has_octets(state.header, offset, octets)

    return test


def has_logged_number(word: str) -> Callable[[State, int], Code]:
    """``rnr`` and ``srnr``: the numbers of rule and inner rule in a record of pf's log."""

    def test(state: State, number: int) -> Code:
        _require_pflog(state, word)
        return equal(state.link_load(_PFLOG_NUMBERS[word], 4), number)

    return test


def has_reason(state: State, reason: int | str) -> Code:
    """``reason``: why pf logged a packet."""
    if isinstance(reason, str):
        if reason.lower() not in _REASONS:
            raise FilterError(f'unknown PF reason "{reason}"')
        reason = _REASONS.index(reason.lower())
    _require_pflog(state, "reason")
    return equal(state.link_load(_PFLOG_REASON_AT, 1), reason)


def has_action(state: State, action: str) -> Code:
    """``action``: what pf did with a packet."""
    if action.lower() not in _ACTIONS:
        raise FilterError(f'unknown PF action "{action}"')
    _require_pflog(state, "action")
    return equal(state.link_load(_PFLOG_ACTION_AT, 1), _ACTIONS[action.lower()])


def _require_pflog(state: State, word: str) -> None:
    if state.link.number != _PFLOG:
        raise FilterError(f"{word} supported only on PF linktype")
