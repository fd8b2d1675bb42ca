"""Comparisons of numbers: octets of headers, lengths and arithmetic.

What must hold for an octet's header to be there is asked for first, but, as in libpcap, not for what stands to the
right of an arithmetic operator.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pcap2arrow.errors import FilterError
from queries.filters.generate import numbers
from queries.filters.generate.code import MASK32, Check, Code, Inverse, equal, every, plus
from queries.filters.generate.link import carries
from queries.filters.generate.protocols import is_protocol
from queries.filters.generate.state import Size, State
from queries.filters.generate.transport import is_first_fragment
from queries.filters.language.terms import Accessor, Length, Negative, Number, Operation, Relation, Value
from queries.filters.program import Arithmetic, Constant, Load, Operand, WireLength

_ICMP6 = 58
_IP6_HEADER = 40
_RADIO_HEADERS = (119, 127, 163)
_OVER_LINK = ("ip", "ip6", "arp", "rarp", "atalk", "decnet", "sca", "lat", "moprc", "mopdl")
_OVER_IPV4 = ("tcp", "udp", "sctp", "icmp", "igmp", "igrp", "pim", "vrrp", "carp")
_LARGEST_SHIFT = 31
_SIZES: dict[int, Size] = {1: 1, 2: 2, 4: 4}
_SMALL = 1 << 31


@dataclass(frozen=True, slots=True)
class _Result:
    """A value's operand, the register that it is in, and what must hold first.

    ``first`` is the number that its code begins with, None where it begins otherwise: libpcap looks only there for
    divisors of 0.
    """

    operand: Operand
    register: int
    checks: tuple[Code, ...] = ()
    first: int | None = None


def is_related(state: State, relation: Relation) -> Code:
    """The comparison, after all that must hold for its octets to be there."""
    stores: dict[int, Operand] = {}
    left, right = (_evaluated(state, value, stores) for value in (relation.left, relation.right))
    state.registers.give(left.register, right.register)
    kept = tuple(stores.items()) if state.keeps_registers else ()
    comparison = _compared(left.operand, relation.operator, right.operand, kept)
    return every(*left.checks, *right.checks, comparison)


def _compared(left: Operand, operator: str, right: Operand, stores: tuple[tuple[int, Operand], ...]) -> Code:
    match operator:
        case ">" | "<=":
            greater = Check(left, ">", right, stores=stores)
            return greater if operator == ">" else Inverse(greater)
        case ">=" | "<":
            at_least = Check(left, ">=", right, stores=stores)
            return at_least if operator == ">=" else Inverse(at_least)
    same = Check(left, "=", right, Arithmetic("-", left, right), stores)
    return same if operator == "=" else Inverse(same)


def _evaluated(state: State, whole: Value, stores: dict[int, Operand]) -> _Result:
    """A value, its parts from left to right, in one loop, since they may be many; ``stores`` is added to."""
    results: list[_Result] = []
    pending: list[tuple[Value, bool]] = [(whole, False)]
    while pending:
        value, has_parts = pending.pop()
        parts = _parts(value)
        if parts and not has_parts:
            pending.append((value, True))
            pending.extend((part, False) for part in reversed(parts))
            continue
        try:
            result = _combined(state, value, results[len(results) - len(parts) :])
        except FilterError as error:
            raise FilterError(error.reason, span=value.span) from None
        results[len(results) - len(parts) :] = [result]
        stores[result.register] = result.operand
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
            return _Result(Constant(number), state.registers.take(), first=number)
        case Length():
            return _Result(WireLength(), state.registers.take())
        case Negative():
            (part,) = parts
            return replace(part, operand=Arithmetic("-", Constant(0), part.operand))
        case Operation(operator, _, _, _):
            return _operation(state, operator, *parts)
        case Accessor(protocol, _, size, _):
            return _accessed(state, protocol, size, *parts)


def _operation(state: State, operator: str, left: _Result, right: _Result) -> _Result:
    """Arithmetic; as in libpcap, what must hold for the right side is forgotten."""
    if operator == "/" and right.first == 0:
        raise FilterError("division by zero")
    if operator == "%" and right.first == 0:
        raise FilterError("modulus by zero")
    if operator in ("<<", ">>") and right.first is not None and right.first > _LARGEST_SHIFT:
        raise FilterError("shift by more than 31 bits")
    state.registers.give(left.register, right.register)
    operand = Arithmetic(operator, left.operand, right.operand)
    return _Result(operand, state.registers.take(), left.checks, left.first)


def _accessed(state: State, protocol: str, size: int, index: _Result) -> _Result:
    """Octets of a header at an index."""
    register = state.registers.take()
    state.registers.give(index.register)
    width = _SIZES.get(size)
    if width is None:
        raise FilterError("data size must be 1, 2, or 4")
    network = state.payload.moved(state.network)
    checks = index.checks
    if protocol == "radio":
        if state.link.number not in _RADIO_HEADERS:
            raise FilterError("radio information not present in capture")
        operand = _indexed(0, None, width, index.operand)
    elif protocol == "link":
        operand = _indexed(state.header.constant, state.variable(state.header), width, index.operand)
    elif protocol in _OVER_LINK:
        operand = _indexed(network.constant, state.variable(network), width, index.operand)
        checks = (*checks, is_protocol(state, protocol))
    elif protocol in _OVER_IPV4:
        is_short = network.variable is None
        operand = _indexed(network.constant, state.ipv4_header_end(), width, index.operand, is_short=is_short)
        of_protocol = (is_protocol(state, protocol), is_first_fragment(state))
        checks = (carries(state, numbers.IP), *checks, *of_protocol)
    elif protocol == "icmp6":
        checks = (*checks, carries(state, numbers.IP6), equal(state.network_load(6, 1), _ICMP6))
        operand = _indexed(network.constant + _IP6_HEADER, state.variable(network), width, index.operand)
    else:
        raise FilterError("unsupported index operation")
    return _Result(operand, register, checks, index.first)


def _indexed(
    constant: int, variable: Operand | None, size: Size, index: Operand, *, is_short: bool = False
) -> Load:
    """Octets at an index from a place: what varies is added modulo 2³², the constant part as in any load.

    ``is_short``: what varies is no greater than some header's length.
    """
    constant &= MASK32
    if isinstance(index, Constant) and constant + index.value <= MASK32:
        can_wrap = variable is not None and not (is_short and index.value < _SMALL)
        if not can_wrap:
            return Load(constant + index.value, size, variable)
    return Load(constant, size, index if variable is None else plus(index, variable))
