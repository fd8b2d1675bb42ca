"""Terms that move the place of headers for all terms after them: VLAN tags, MPLS labels, PPPoE and Geneve."""

from __future__ import annotations

from collections.abc import Callable

from pcap2arrow.errors import FilterError
from queries.filters.generate import numbers
from queries.filters.generate.code import Check, Code, equal, every, is_equal, plus, product, some
from queries.filters.generate.link import carries
from queries.filters.generate.link_types import ETHERNET, PPP
from queries.filters.generate.state import Place, Size, State
from queries.filters.generate.transport import is_to_udp_port_over_ipv4, is_to_udp_port_over_ipv6
from queries.filters.program import Arithmetic, Constant, Load, Operand

_TAG = 4
_PPPOE_HEADER, _PPP_NUMBER = 6, 2
_LARGEST_VLAN, _LARGEST_LABEL, _LARGEST_SESSION, _LARGEST_VNI = 0xFFF, 0xFFFFF, 0xFFFF, 0xFFFFFF
_GENEVE_PORT = 6081
_UDP_HEADER, _IP6_HEADER, _ETHERNET_HEADER = 8, 40, 14
_PPI = 192


def is_vlan(state: State, number: int | None) -> Code:
    """``vlan``: whether there is a tag, of that number; what follows in the text is about what the tag precedes."""
    if state.labels:
        raise FilterError("no VLAN match after MPLS")
    if not (state.link.is_ethernet or state.link.is_wlan) or state.link.number == _PPI:
        raise FilterError(f"no VLAN support for {state.link.name}")
    code: Code = some(*(carries(state, tag) for tag in numbers.VLAN_TAGS))
    if number is not None:
        _check_range("VLAN tag", number, _LARGEST_VLAN)
        code = every(code, equal(state.network_load(0, 2), number, _LARGEST_VLAN))
    state.payload = state.payload.moved(_TAG)
    state.type_field = state.type_field.moved(_TAG)
    return code


def is_mpls(state: State, label: int | None) -> Code:
    """``mpls``: whether there is a label, that one; what follows in the text is about what the label precedes."""
    if state.labels:
        code: Code = equal(state.network_load(-2, 1), 0, 0x01)
    elif state.link.family in ("ethernet", "hdlc"):
        code = carries(state, numbers.MPLS)
    elif state.link is PPP:
        code = carries(state, numbers.PPP_MPLS)
    else:
        raise FilterError(f"no MPLS support for {state.link.name}")
    if label is not None:
        _check_range("MPLS label", label, _LARGEST_LABEL)
        code = every(code, equal(state.network_load(0, 4), label << 12, 0xFFFFF000))
    state.network += _TAG
    state.llc_network += _TAG
    state.labels += 1
    return code


def is_pppoe_session(state: State, number: int | None) -> Code:
    """``pppoes``: whether there is PPP over Ethernet, of that session; what follows in the text is about PPP."""
    code = carries(state, numbers.PPPOE_SESSION)
    if number is not None:
        _check_range("PPPoE session number", number, _LARGEST_SESSION)
        code = every(code, equal(state.network_load(0, 4), number, _LARGEST_SESSION))
    variable = None if state.payload.variable is None else state.payload.variable.copied()
    state.enter(PPP, Place(state.payload.constant + state.network + _PPPOE_HEADER, variable))
    state.type_field = Place(state.header.constant, None if variable is None else variable.copied())
    state.payload = Place(state.header.constant + _PPP_NUMBER, state.payload.variable)
    state.network = state.llc_network = 0
    return code


def is_geneve(state: State, number: int | None) -> Code:
    """``geneve``: whether there is a tunnel, of that number; what follows in the text is about what is in it.

    That lies in other places over IPv4 than over IPv6, so it is noted in registers on the way.
    """
    over_ipv4 = _is_tunnel(state, is_to_udp_port_over_ipv4, state.over_ipv4_load, number)
    ipv4_end = state.ipv4_header_end()
    over_ipv6 = _is_tunnel(state, is_to_udp_port_over_ipv6, state.over_ipv6_load, number)
    variable = state.variable(state.payload)
    ipv6_end = Constant(_IP6_HEADER) if variable is None else plus(Constant(_IP6_HEADER), variable)
    tunnels = (every(over_ipv4, _left(ipv4_end)), every(over_ipv6, _left(ipv6_end)))
    return every(some(*tunnels), _enter_tunnel(state))


def _left(operand: Operand) -> Check:
    """True, with that in the accumulator."""
    return Check(operand, "=", operand)


def _is_tunnel(
    state: State,
    is_to_port: Callable[[State, int], Code],
    load: Callable[[int, Size], Load],
    number: int | None,
) -> Code:
    checks = [is_to_port(state, _GENEVE_PORT), equal(load(_UDP_HEADER, 1), 0, 0xC0)]
    if number is not None:
        _check_range("Geneve VNI", number, _LARGEST_VNI)
        checks.append(equal(load(_UDP_HEADER + 4, 4), number << 8, 0xFFFFFF00))
    return every(*checks)


def _enter_tunnel(state: State) -> Code:
    """Note where a tunnel's payload lies, and go on there; the accumulator holds the end of the IP header."""
    start = plus(state.accumulator(), state.payload.constant + state.network + _UDP_HEADER & 0xFFFF_FFFF)
    options = product(Arithmetic("&", Load(0, 1, start), Constant(0x3F)), 4)
    header_end = plus(plus(options, 8), start)
    is_ethernet = is_equal(Load(2, 2, start), numbers.BRIDGED_ETHERNET)
    type_at = plus(plus(start, 2), product(is_ethernet, plus(options, 8 + _ETHERNET_HEADER - 4)))
    payload_at = plus(header_end, product(is_ethernet, _ETHERNET_HEADER))
    type_field, header, payload = (state.new_variable() for _ in range(3))
    state.enter(ETHERNET, Place(0, header))
    state.in_geneve = True
    state.type_field, state.payload, state.network = Place(0, type_field), Place(0, payload), 0
    places = ((type_field, type_at), (header, header_end), (payload, payload_at))
    stores = tuple((variable.register, place) for variable, place in places if variable.register is not None)
    return Check(payload_at, ">=", Constant(0), accumulator=Constant(0), stores=stores)


def _check_range(what: str, number: int, largest: int) -> None:
    if number > largest:
        raise FilterError(f"{what} {number} greater than maximum {largest}")
