"""Filters on columns of the packet table instead of octets: for Ethernet, whose fixed places columns tell.

Code becomes a Polars expression that is true, false, or null where the columns can't tell: there the octets must be
looked at.  What a load at a fixed place reads is a field only where the comparisons before it have established the
headers, so places are looked up with what is known there.  Where a frame is ``irregular``, a field may be null
although its header was announced; null passes through ``and`` and ``or`` as a load outside of the frame does, from
left to right.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from queries.filters.generate.code import ALWAYS, NEVER, Check, Code, Every, Inverse, Some
from queries.filters.program import Arithmetic, Constant, Load, Operand, WireLength
from queries.filters.simplify import NOTHING, Known, simplified

ETHERNET = 1
_MOST_PARTS, _DEEPEST = 2000, 60
_TYPE = Load(12, 2)
_IP, _ARP, _RARP, _IP6 = 0x0800, 0x0806, 0x8035, 0x86DD
_HEADER = 14
_IPV4_PROTOCOL, _IPV6_PROTOCOL = Load(_HEADER + 9, 1), Load(_HEADER + 6, 1)
_IPV4_LENGTH = Arithmetic("<<", Arithmetic("&", Load(_HEADER, 1), Constant(0xF)), Constant(2))
_FRAGMENT_OFFSET = Arithmetic("&", Load(_HEADER + 6, 2), Constant(0x1FFF))
_TCP, _UDP, _SCTP, _ICMP, _IGMP = 6, 17, 132, 1, 2
_MASK32 = 0xFFFF_FFFF
_COMPARE: dict[str, Callable[[Any, Any], pl.Expr]] = {"=": operator.eq, ">": operator.gt, ">=": operator.ge}


@dataclass(frozen=True, slots=True)
class Field:
    """A header's field of so many octets, and the columns that tell it (``value`` as unsigned number)."""

    offset: int
    size: int
    value: Callable[[], pl.Expr]
    columns: tuple[str, ...]


def _column(offset: int, size: int, name: str) -> Field:
    return Field(offset, size, lambda: pl.col(name), (name,))


def _half(offset: int, name: str, *, upper: bool) -> Field:
    """Half of a column of 64 bits."""
    if upper:
        return Field(offset, 4, lambda: pl.col(name) // (1 << 32), (name,))
    return Field(offset, 4, lambda: pl.col(name) & _MASK32, (name,))


def _flags_and_offset() -> pl.Expr:
    flags = pl.col("ip_flags").cast(pl.UInt32) * 0x2000
    return flags + pl.col("ip_frag_offset").cast(pl.UInt32) // 8


def _length_and_flags() -> pl.Expr:
    return pl.col("tcp_hdr_len").cast(pl.UInt32) * 0x400 + pl.col("tcp_flags").cast(pl.UInt32)


def _version_class_flow() -> pl.Expr:
    traffic_class = pl.col("ip_dsfield").cast(pl.UInt32) * (1 << 20)
    return traffic_class + pl.col("ipv6_flow").cast(pl.UInt32) + (6 << 28)


_ETHERNET = (
    Field(0, 2, lambda: pl.col("eth_dst") // (1 << 32), ("eth_dst",)),
    _half(2, "eth_dst", upper=False),
    Field(6, 2, lambda: pl.col("eth_src") // (1 << 32), ("eth_src",)),
    _half(8, "eth_src", upper=False),
    _column(12, 2, "eth_type"),
)
_PORTS = (_column(0, 2, "src_port"), _column(2, 2, "dst_port"))
_ARP_FIELDS = (_column(6, 2, "arp_opcode"), _column(14, 4, "ip_src"), _column(24, 4, "ip_dst"))
_NETWORK: dict[int, tuple[Field, ...]] = {
    _IP: (
        Field(0, 1, lambda: pl.col("ip_hdr_len") // 4 + 0x40, ("ip_hdr_len",)),
        _column(1, 1, "ip_dsfield"),
        _column(2, 2, "ip_len"),
        _column(4, 2, "ip_id"),
        Field(6, 2, _flags_and_offset, ("ip_flags", "ip_frag_offset")),
        _column(8, 1, "ip_ttl"),
        _column(9, 1, "ip_proto"),
        _column(12, 4, "ip_src"),
        _column(16, 4, "ip_dst"),
    ),
    _IP6: (
        Field(0, 4, _version_class_flow, ("ip_dsfield", "ipv6_flow")),
        _column(4, 2, "ip_len"),
        _column(6, 1, "ip_proto"),
        _column(7, 1, "ip_ttl"),
        _half(8, "ipv6_src_hi", upper=True),
        _half(12, "ipv6_src_hi", upper=False),
        _half(16, "ipv6_src_lo", upper=True),
        _half(20, "ipv6_src_lo", upper=False),
        _half(24, "ipv6_dst_hi", upper=True),
        _half(28, "ipv6_dst_hi", upper=False),
        _half(32, "ipv6_dst_lo", upper=True),
        _half(36, "ipv6_dst_lo", upper=False),
    ),
    _ARP: _ARP_FIELDS,
    _RARP: _ARP_FIELDS,
}
_TRANSPORT: dict[int, tuple[Field, ...]] = {
    _TCP: (
        *_PORTS,
        _column(4, 4, "tcp_seq"),
        _column(8, 4, "tcp_ack"),
        Field(12, 1, lambda: _length_and_flags() // 0x100, ("tcp_hdr_len", "tcp_flags")),
        Field(13, 1, lambda: pl.col("tcp_flags") & 0xFF, ("tcp_flags",)),
        Field(12, 2, _length_and_flags, ("tcp_hdr_len", "tcp_flags")),
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

    ``regular`` is for frames that are not irregular, ``irregular`` for the others, too.  ``complete`` says that
    ``regular`` is never null; ``columns`` are those that both read.
    """

    regular: pl.Expr
    irregular: pl.Expr
    columns: frozenset[str]
    complete: bool


def column_plan(code: Code, link_type: int) -> ColumnPlan | None:
    """The plan for Ethernet; None for other link types, for code too large or deep, or where columns tell nothing."""
    if link_type != ETHERNET or not _is_small(code):
        return None
    simple = simplified(code).code
    regular, irregular = _Translation(trusting=True), _Translation(trusting=False)
    whole, careful = regular.of(simple, NOTHING), irregular.of(simple, NOTHING)
    if not regular.columns:
        return None
    return ColumnPlan(whole.expression, careful.expression, frozenset(regular.columns), whole.complete)


def _is_small(code: Code) -> bool:
    parts, waiting = 0, list[tuple[Code | Operand, int]]([(code, 0)])
    while waiting:
        node, depth = waiting.pop()
        parts += 1
        if depth > _DEEPEST or parts > _MOST_PARTS:
            return False
        match node:
            case Every(inner) | Some(inner):
                waiting.extend((part, depth + 1) for part in inner)
            case Inverse(part):
                waiting.append((part, depth + 1))
            case Check(left, _, right) | Arithmetic(_, left, right):
                waiting += [(left, depth + 1), (right, depth + 1)]
            case Load(_, _, index) if index is not None:
                waiting.append((index, depth + 1))
    return True


@dataclass(frozen=True, slots=True)
class _Result:
    """An expression; ``complete`` where no part of it is null because no column tells it."""

    expression: pl.Expr
    complete: bool


@dataclass(slots=True)
class _Translation:
    """Code on its way to an expression: which columns it reads so far.

    ``trusting`` is for regular frames, in which a field is there where it was announced.
    """

    trusting: bool
    columns: set[str] = field(default_factory=set)

    def of(self, code: Code, known: Known) -> _Result:
        """The code's expression, where that is known."""
        match code:
            case Check():
                return self._check(code, known)
            case Inverse(part):
                inner = self.of(part, known)
                return _Result(~inner.expression, inner.complete)
            case Every(parts):
                results = []
                for part in parts:
                    results.append(self.of(part, known))
                    known = simplified(part, known).known
                return self._joined(results, operator.and_)
            case Some(parts):
                return self._joined([self.of(part, known) for part in parts], operator.or_)

    def _joined(self, results: list[_Result], join: Callable[[pl.Expr, pl.Expr], pl.Expr]) -> _Result:
        """From left to right; what is null stays null, whatever comes after it."""
        first, *others = results
        expression, complete = first.expression, first.complete
        for result in others:
            both = join(expression, result.expression)
            expression = both if complete and self.trusting else pl.when(expression.is_not_null()).then(both)
            complete = complete and result.complete
        return _Result(expression, complete)

    def _check(self, check: Check, known: Known) -> _Result:
        if check in (ALWAYS, NEVER):
            return _Result(pl.lit(check == ALWAYS), True)
        if check.left == _FRAGMENT_OFFSET and check.right == Constant(0) and _is(known, _TYPE, _IP):
            self.columns.add("ip_frag_offset")
            return _Result(_COMPARE[check.operator](pl.col("ip_frag_offset"), 0), True)
        left = self._value(check.left, known)
        right = check.right.value if type(check.right) is Constant else self._value(check.right, known)
        if left is None or right is None or check.stores:
            return _Result(pl.lit(None, pl.Boolean), False)
        return _Result(_COMPARE[check.operator](left, right), True)

    def _value(self, operand: Operand, known: Known) -> pl.Expr | None:
        match operand:
            case WireLength():
                self.columns.add("frame_len")
                return pl.col("frame_len")
            case Load():
                return self._load(operand, known)
            case Arithmetic(sign, left, right):
                return self._arithmetic(sign, self._value(left, known), self._value(right, known), right)
        if type(operand) is Constant:
            return pl.lit(operand.value, pl.UInt32)
        return None

    def _arithmetic(
        self, sign: str, left: pl.Expr | None, right: pl.Expr | None, operand: Operand
    ) -> pl.Expr | None:
        """Modulo 2³²; only what can't reject."""
        if left is None or right is None:
            return None
        left, right = left.cast(pl.UInt64), right.cast(pl.UInt64)
        constant = operand.value if type(operand) is Constant else None
        match sign:
            case "&":
                return left & right
            case "|":
                return left | right
            case "^":
                return left ^ right
            case "+":
                return (left + right) & _MASK32
            case "-":
                return (left + (1 << 32) - right) & _MASK32
            case "*":
                return (left * right) & _MASK32
            case "/" if constant:
                return left // right
            case "%" if constant:
                return left % right
            case "<<" if constant is not None:
                return (left * (1 << constant)) & _MASK32 if constant < 32 else pl.lit(0, pl.UInt64)
            case ">>" if constant is not None:
                return left // (1 << constant) if constant < 32 else pl.lit(0, pl.UInt64)
        return None

    def _load(self, load: Load, known: Known) -> pl.Expr | None:
        fields, offset = _fields(load, known)
        for each in fields:
            after = each.offset + each.size - offset - load.size
            if each.offset <= offset and after >= 0:
                self.columns.update(each.columns)
                if each.size == load.size:
                    return each.value()
                whole = each.value().cast(pl.UInt32)
                return (whole // (1 << 8 * after)) & ((1 << 8 * load.size) - 1)
        return None


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
