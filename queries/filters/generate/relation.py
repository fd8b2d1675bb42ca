"""Comparisons of numbers: octets of headers, lengths and arithmetic.

What must hold for an octet's header to be there is asked for first, but, as in libpcap, not for what stands to the
right of an arithmetic operator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pcap2arrow.errors import FilterError
from queries.filters.generate import numbers
from queries.filters.generate.code import Check, Code, Inverse, equal, every, plus
from queries.filters.generate.link import carries
from queries.filters.generate.protocols import is_protocol
from queries.filters.generate.state import Place, State
from queries.filters.generate.transport import is_first_fragment
from queries.filters.program import Arithmetic, Constant, Load, Operand, WireLength
from queries.filters.terms import Accessor, Length, Negative, Number, Operation, Relation, Value

_ICMP6 = 58
_IP6_HEADER = 40
_RADIO_HEADERS = (119, 127, 163)
_OVER_LINK = ("ip", "ip6", "arp", "rarp", "atalk", "decnet", "sca", "lat", "moprc", "mopdl")
_OVER_IPV4 = ("tcp", "udp", "sctp", "icmp", "igmp", "igrp", "pim", "vrrp", "carp")
_LARGEST_SHIFT = 31


@dataclass(frozen=True, slots=True)
class _Result:
    """A value's operand, what must hold first, and the number that its code begins with, None: no number."""

    operand: Operand
    checks: tuple[Code, ...] = ()
    first: int | None = None


def is_related(state: State, relation: Relation) -> Code:
    """The comparison, after all that must hold for its octets to be there."""
    left, right = _evaluated(state, relation.left), _evaluated(state, relation.right)
    state.give_registers(2)
    comparison = _compared(left.operand, relation.operator, right.operand)
    return every(*left.checks, *right.checks, comparison)


def _compared(left: Operand, operator: str, right: Operand) -> Code:
    match operator:
        case ">" | ">=":
            return Check(left, ">" if operator == ">" else ">=", right)
        case "<" | "<=":
            return Inverse(Check(left, ">=" if operator == "<" else ">", right))
    same = Check(left, "=", right, accumulator=Arithmetic("-", left, right))
    return same if operator == "=" else Inverse(same)


def _evaluated(state: State, whole: Value) -> _Result:
    """A value, its parts from left to right, in one loop, since they may be many."""
    results: list[_Result] = []
    pending: list[tuple[Value, bool]] = [(whole, False)]
    while pending:
        value, has_parts = pending.pop()
        if not has_parts:
            pending.append((value, True))
            pending.extend((part, False) for part in reversed(_parts(value)))
            continue
        parts = [results.pop() for _ in _parts(value)][::-1]
        try:
            results.append(_combined(state, value, parts))
        except FilterError as error:
            raise FilterError(error.reason, span=value.span) from None
    return results[0]


def _parts(value: Value) -> tuple[Value, ...]:
    match value:
        case Accessor(index=index):
            return (index,)
        case Operation(left=left, right=right):
            return left, right
        case Negative(value=negated):
            return (negated,)
    return ()


def _combined(state: State, value: Value, parts: list[_Result]) -> _Result:
    match value:
        case Number(number, _):
            state.take_register()
            return _Result(Constant(number), first=number)
        case Length():
            state.take_register()
            return _Result(WireLength())
        case Negative():
            (part,) = parts
            return _Result(Arithmetic("-", Constant(0), part.operand), part.checks, part.first)
        case Operation(operator, _, _, _):
            return _operation(state, operator, *parts)
        case Accessor(protocol, _, size, _):
            return _accessed(state, protocol, size, *parts)


def _operation(state: State, operator: str, left: _Result, right: _Result) -> _Result:
    if operator == "/" and right.first == 0:
        raise FilterError("division by zero")
    if operator == "%" and right.first == 0:
        raise FilterError("modulus by zero")
    if operator in ("<<", ">>") and right.first is not None and right.first > _LARGEST_SHIFT:
        raise FilterError("shift by more than 31 bits")
    state.give_registers(1)
    return _Result(Arithmetic(operator, left.operand, right.operand), left.checks, left.first)


def _accessed(state: State, protocol: str, size: int, index: _Result) -> _Result:
    """Octets of a header at an index."""
    state.take_register()
    state.give_registers(1)
    if size not in (1, 2, 4):
        raise FilterError("data size must be 1, 2, or 4")
    width: Literal[1, 2, 4] = 1 if size == 1 else 2 if size == 2 else 4
    network = state.payload.moved(state.network)
    checks = index.checks
    if protocol == "radio":
        if state.link.number not in _RADIO_HEADERS:
            raise FilterError("radio information not present in capture")
        operand = _load(state, Place(0), width, index.operand)
    elif protocol == "link":
        operand = _load(state, state.header, width, index.operand)
    elif protocol in _OVER_LINK:
        operand = _load(state, network, width, index.operand)
        checks = (*checks, is_protocol(state, protocol))
    elif protocol in _OVER_IPV4:
        operand = _indexed(Place(network.constant, state.ipv4_header_end()), width, index.operand)
        of_protocol = (is_protocol(state, protocol), is_first_fragment(state))
        checks = (carries(state, numbers.IP), *checks, *of_protocol)
    elif protocol == "icmp6":
        is_icmp6 = equal(state.network_load(6, 1), _ICMP6)
        checks = (carries(state, numbers.IP6), *checks, is_icmp6)
        operand = _load(state, network.moved(_IP6_HEADER), width, index.operand)
    else:
        raise FilterError("unsupported index operation")
    return _Result(operand, checks, index.first)


def _load(state: State, place: Place, size: Literal[1, 2, 4], index: Operand) -> Load:
    state.variable(place)
    return _indexed(place, size, index)


def _indexed(place: Place, size: Literal[1, 2, 4], index: Operand) -> Load:
    """Octets at an index from a place: what varies is added modulo 2³², the constant part as in any load."""
    constant = place.constant & 0xFFFF_FFFF
    if isinstance(index, Constant) and constant + index.value <= 0xFFFF_FFFF and not _may_wrap(place, index):
        return Load(constant + index.value, size, place.variable)
    return Load(constant, size, index if place.variable is None else plus(index, place.variable))


def _may_wrap(place: Place, index: Constant) -> bool:
    """Whether index and variable part may exceed 32 bits; no header's length is greater than 2¹⁶, but those of AVS."""
    return place.variable is not None and (index.value >= 1 << 31)
