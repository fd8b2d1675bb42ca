"""Filters on columns of the packet table instead of octets: for Ethernet, whose fixed places columns tell.

Code becomes a Polars expression that is true, false, or null where the columns can't tell: there the octets must be
looked at, as they must for every frame that is ``irregular``.  What a load at a fixed place reads is a field only
where the comparisons before it have established the headers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import polars as pl

from queries.filters.generate.code import Check, Code, Every, Inverse, Some
from queries.filters.program import Arithmetic, Constant, Load, Operand
from queries.filters.simplify import Known, simplified
from queries.filters.ternary import (
    COMPARE,
    FALSE,
    MASK32,
    NOT_TOLD,
    OF_SIZE,
    TRUE,
    UNKNOWN,
    Told,
    comparison,
    conjuncts,
    is_small,
    told,
    translated,
    value,
)

ETHERNET = 1
_MOST_PARTS = 2000
_TYPE = Load(12, 2)
_IP, _ARP, _RARP, _IP6 = 0x0800, 0x0806, 0x8035, 0x86DD
_HEADER = 14
_IPV4_PROTOCOL, _IPV6_PROTOCOL = Load(_HEADER + 9, 1), Load(_HEADER + 6, 1)
_IS_IPV6_FRAGMENT = Check(_IPV6_PROTOCOL, "=", Constant(44))
_IPV4_LENGTH = Arithmetic("<<", Arithmetic("&", Load(_HEADER, 1), Constant(0xF)), Constant(2))
_FRAGMENT_OFFSET = Arithmetic("&", Load(_HEADER + 6, 2), Constant(0x1FFF))
_TCP, _UDP, _SCTP, _ICMP, _IGMP = 6, 17, 132, 1, 2


@dataclass(frozen=True, slots=True)
class Field:
    """A header's field of so many octets, and its value as unsigned number."""

    offset: int
    size: int
    value: pl.Expr


def _column(offset: int, size: int, name: str) -> Field:
    return Field(offset, size, pl.col(name))


def _upper(offset: int, size: int, name: str) -> Field:
    """What stands above the lower 32 bits of a column of 64 bits."""
    return Field(offset, size, pl.col(name) // (1 << 32))


def _lower(offset: int, name: str) -> Field:
    """The lower 32 bits of a column of 64."""
    return Field(offset, 4, pl.col(name) & MASK32)


_FLAGS_AND_OFFSET = (
    pl.col("ip_flags").cast(pl.UInt32) * 0x2000 + pl.col("ip_frag_offset").cast(pl.UInt32) // 8
)
_LENGTH_AND_FLAGS = pl.col("tcp_hdr_len").cast(pl.UInt32) * 0x400 + pl.col("tcp_flags").cast(pl.UInt32)
_VERSION_CLASS_FLOW = (
    pl.col("ip_dsfield").cast(pl.UInt32) * (1 << 20) + pl.col("ipv6_flow").cast(pl.UInt32) + (6 << 28)
)

_ETHERNET = (
    _upper(0, 2, "eth_dst"),
    _lower(2, "eth_dst"),
    _upper(6, 2, "eth_src"),
    _lower(8, "eth_src"),
    _column(12, 2, "eth_type"),
)
_PORTS = (_column(0, 2, "src_port"), _column(2, 2, "dst_port"))
_ARP_FIELDS = (_column(6, 2, "arp_opcode"), _column(14, 4, "ip_src"), _column(24, 4, "ip_dst"))
_NETWORK: dict[int, tuple[Field, ...]] = {
    _IP: (
        Field(0, 1, pl.col("ip_hdr_len") // 4 + 0x40),
        _column(1, 1, "ip_dsfield"),
        _column(2, 2, "ip_len"),
        _column(4, 2, "ip_id"),
        Field(6, 2, _FLAGS_AND_OFFSET),
        _column(8, 1, "ip_ttl"),
        _column(9, 1, "ip_proto"),
        _column(12, 4, "ip_src"),
        _column(16, 4, "ip_dst"),
    ),
    _IP6: (
        Field(0, 4, _VERSION_CLASS_FLOW),
        _column(4, 2, "ip_len"),
        _column(6, 1, "ip_proto"),
        _column(7, 1, "ip_ttl"),
        _upper(8, 4, "ipv6_src_hi"),
        _lower(12, "ipv6_src_hi"),
        _upper(16, 4, "ipv6_src_lo"),
        _lower(20, "ipv6_src_lo"),
        _upper(24, 4, "ipv6_dst_hi"),
        _lower(28, "ipv6_dst_hi"),
        _upper(32, 4, "ipv6_dst_lo"),
        _lower(36, "ipv6_dst_lo"),
    ),
    _ARP: _ARP_FIELDS,
    _RARP: _ARP_FIELDS,
}
_TRANSPORT: dict[int, tuple[Field, ...]] = {
    _TCP: (
        *_PORTS,
        _column(4, 4, "tcp_seq"),
        _column(8, 4, "tcp_ack"),
        Field(12, 1, _LENGTH_AND_FLAGS // 0x100),
        Field(13, 1, pl.col("tcp_flags") & 0xFF),
        Field(12, 2, _LENGTH_AND_FLAGS),
        _column(14, 2, "tcp_window"),
    ),
    _UDP: (*_PORTS, _column(4, 2, "udp_length")),
    _SCTP: _PORTS,
    _ICMP: (_column(0, 1, "icmp_type"), _column(1, 1, "icmp_code")),
    _IGMP: (_column(0, 1, "igmp_type"),),
}


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """A filter as an expression on columns: true, false, or null where octets must tell.

    It holds for frames that are not irregular.  ``complete`` says that it is never null; ``columns`` are those that
    it reads.
    """

    expression: pl.Expr
    columns: frozenset[str]
    complete: bool


NO_REGULAR_FRAME = ColumnPlan(pl.col("irregular") & False, frozenset(("irregular",)), complete=True)
"""The plan of a filter that no frame can match unless it is irregular."""


def column_plan(code: Code, link_type: int) -> ColumnPlan | None:
    """The plan for Ethernet; None for other link types, for code too large or deep, or where columns tell nothing."""
    if link_type != ETHERNET or not is_small(code, _MOST_PARTS):
        return None
    result = _whole(simplified(code).code)
    expression = result.boolean()
    columns = frozenset(expression.meta.root_names())
    return ColumnPlan(expression, columns, result.is_complete) if columns else None


def column_of(operand: Operand, known: Known) -> str | None:
    """The column whose values are just those of an operand, where that is known of a frame; None without one."""
    found = value(operand, _COLUMNS, known) if isinstance(operand, Load) else None
    if found is None or not found.meta.is_column():
        return None
    return found.meta.output_name()


_PAYLOAD_AFTER = {
    _TCP: pl.col("tcp_hdr_len").cast(pl.Int64),
    _UDP: pl.lit(8),
    _SCTP: pl.lit(12),
    _ICMP: pl.lit(8),
    _IGMP: pl.lit(8),
}


def _whole(code: Code) -> Told:
    """The expression of code that nothing stands around: where its last comparison rejects, it may as well be false."""
    *before, last = code.parts if isinstance(code, Every) else (code,)
    results, known = conjuncts(before, _COLUMNS, following=[last])
    result = translated(last, _COLUMNS, known)
    if result is NOT_TOLD and isinstance(last, Check):
        result = _of_payload(last, known) or result
    return reduce(Told.and_then, [*results, result])


def _of_payload(check: Check, known: Known) -> Told | None:
    """A comparison of octets that come after the headers, false where there are none."""
    load, mask = _unmasked(check.left)
    headers = _headers_length(known)
    if not isinstance(load, Load) or type(check.right) is not Constant or check.stores or headers is None:
        return None
    index = pl.lit(0) if load.index is None else value(load.index, _COLUMNS, known)
    if index is None:
        return None
    place = index.cast(pl.Int64) + load.offset
    octets = pl.col("rest").bin.slice(place - headers, load.size)
    found = octets.bin.reinterpret(dtype=OF_SIZE[load.size], endianness="big").cast(pl.UInt32) & mask
    is_there = place + load.size <= pl.col("filter_len").cast(pl.Int64)
    outcome = is_there & COMPARE[check.operator](found, check.right.value).fill_null(False)
    return Told(pl.when(place >= headers).then(outcome), frozenset((FALSE, TRUE, UNKNOWN)))


def _unmasked(operand: Operand) -> tuple[Operand, int]:
    """What a mask is applied to, and the mask."""
    match operand:
        case Arithmetic("&", inner, Constant(mask)):
            return inner, mask
    return operand, MASK32


def _headers_length(known: Known) -> pl.Expr | None:
    """Octets before the transport payload of first fragments over IPv4; None where that is not known."""
    protocols = known.get(_IPV4_PROTOCOL, frozenset())
    if len(protocols) != 1 or not (_is(known, _TYPE, _IP) and _is(known, _FRAGMENT_OFFSET, 0)):
        return None
    (protocol,) = protocols
    transport = _PAYLOAD_AFTER.get(protocol)
    return None if transport is None else pl.col("ip_hdr_len").cast(pl.Int64) + _HEADER + transport


class _Columns:
    """Loads of the fields that columns hold."""

    def load(self, load: Load, known: Known) -> pl.Expr | None:
        fields, offset = _fields(load, known)
        for each in fields:
            after = each.offset + each.size - offset - load.size
            if each.offset <= offset and after >= 0:
                if each.size == load.size:
                    return each.value
                whole = each.value.cast(pl.UInt32)
                return (whole // (1 << 8 * after)) & ((1 << 8 * load.size) - 1)
        return None

    def wire_length(self) -> pl.Expr:
        return pl.col("frame_len")

    def compared(self, check: Check, known: Known, *, absent: bool = False) -> Told:
        if check == _IS_IPV6_FRAGMENT and _is(known, _TYPE, _IP6):
            return Told(pl.lit(False), frozenset((FALSE,)))  # these are irregular
        if check.left == _FRAGMENT_OFFSET and check.right == Constant(0) and _is(known, _TYPE, _IP):
            return told(COMPARE[check.operator](pl.col("ip_frag_offset"), 0))
        outcome = comparison(check, self, known)
        if outcome is None:
            return NOT_TOLD
        return told(outcome.fill_null(absent) if _reads_transport(check) else outcome)

    def is_implied(self, part: Code, following: Sequence[Code], known: Known) -> bool:
        """Later fragments have null in the columns of transport headers, so that no comparison of these is true.

        Inverse ones aren't either.
        """
        return _is_first_fragment(part) and any(self._needs_transport(each, known) for each in following)

    def _needs_transport(self, code: Code, known: Known) -> bool:
        match code:
            case (Check() as check) | Inverse(Check() as check):
                return _reads_transport(check) and comparison(check, self, known) is not None
            case Every(parts):
                return any(self._needs_transport(part, known) for part in parts)
            case Some(parts):
                return all(self._needs_transport(part, known) for part in parts)
        return False


_COLUMNS = _Columns()


def _is_first_fragment(code: Code) -> bool:
    """Whether code asks for an offset of 0; what it leaves in libpcap's accumulator is no matter here."""
    match code:
        case Inverse(Check(left, ">", Constant(0))):
            return left == _FRAGMENT_OFFSET
    return False


def _reads_transport(check: Check) -> bool:
    """Whether octets are asked for that come after a header of IPv4."""
    waiting = [check.left, check.right]
    while waiting:
        match waiting.pop():
            case Load(_, _, index) if index is not None:
                return True
            case Arithmetic(_, left, right):
                waiting += [left, right]
    return False


def _fields(load: Load, known: Known) -> tuple[tuple[Field, ...], int]:
    """The fields of the header that a load reads from, and the place in that header; none where it is unknown."""
    if load.index is None and load.offset + load.size <= _HEADER:
        return _ETHERNET, load.offset
    types = known.get(_TYPE, frozenset())
    if len(types) != 1:
        return (), 0
    (network,) = types
    offset = load.offset - _HEADER
    if load.index == _IPV4_LENGTH and network == _IP and _is(known, _FRAGMENT_OFFSET, 0):
        return _transport(known.get(_IPV4_PROTOCOL)), offset
    if load.index is not None:
        return (), 0
    if network == _IP6 and offset >= 40:
        return _transport(known.get(_IPV6_PROTOCOL), over=(_TCP, _UDP, _SCTP)), offset - 40
    return _NETWORK.get(network, ()), offset


def _transport(
    protocols: frozenset[int] | None, over: tuple[int, ...] = tuple(_TRANSPORT)
) -> tuple[Field, ...]:
    if protocols is None or len(protocols) != 1 or not protocols <= set(over):
        return ()
    (protocol,) = protocols
    return _TRANSPORT[protocol]


def _is(known: Known, operand: Operand, value: int) -> bool:
    return known.get(operand) == frozenset((value,))
