"""Filters on the column ``irregular_head`` (and ``frame_len``) as expressions: few frames, told without NumPy's import.

Here a null is a load past what libpcap sees, and what is unknown is rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import polars as pl

from pcap2arrow.schema import IRREGULAR_HEAD
from queries.filters.generate.code import Check, Code, Every, Inverse, Some
from queries.filters.program import Arithmetic, Constant, Load, Operand
from queries.filters.simplify import Known, simplified
from queries.filters.ternary import (
    FALSE,
    MASK32,
    OF_SIZE,
    TRUE,
    UNKNOWN,
    Told,
    comparison,
    is_small,
    translated,
    value,
)

_MOST_PARTS = 300
_FIRST_OCTETS = pl.col("irregular_head")


@dataclass(frozen=True, slots=True)
class HeadPlan:
    """A filter as an expression on ``frame_len`` and ``irregular_head``, of which it may read so many octets.

    It is true or false (never null) where a frame has no more octets than the column holds, or none is read after them.
    """

    expression: pl.Expr
    reach: int

    @property
    def tells_all(self) -> bool:
        """Whether the column has all octets that may be read."""
        return self.reach <= IRREGULAR_HEAD


class _NotToldError(Exception):
    """Only the machine can run this."""


def head_plan(code: Code) -> HeadPlan | None:
    """The plan; None for what only the machine can run, or runs better."""
    if not is_small(code, _MOST_PARTS):
        return None
    simple = simplified(code).code
    try:
        expression = translated(simple, _Octets()).is_true()
    except _NotToldError:
        return None
    return HeadPlan(expression, _reach(simple))


class _Octets:
    """Loads of octets where they lie."""

    def load(self, load: Load, known: Known) -> pl.Expr | None:
        if load.index is None:
            return _number(load.offset, load.size)
        index = value(load.index, self, known)
        return None if index is None else _read(index.cast(pl.Int64) + load.offset, load.size)

    def wire_length(self) -> pl.Expr:
        return pl.col("frame_len")

    def compared(self, check: Check, known: Known, *, absent: bool = False) -> Told:
        outcome = comparison(check, self, known)
        if outcome is None:
            raise _NotToldError
        return Told(outcome, frozenset((FALSE, TRUE, UNKNOWN)))

    def is_implied(self, part: Code, following: Sequence[Code], known: Known) -> bool:
        return False


def _read(place: pl.Expr | int, size: int) -> pl.Expr:
    octets = _FIRST_OCTETS.bin.slice(place, size)
    return octets.bin.reinterpret(dtype=OF_SIZE[size], endianness="big")


_number = lru_cache(256)(_read)
"""The same at a fixed place: filters ask again and again for the same few."""


def _reach(code: Code) -> int:
    """How many of a frame's first octets code can load at most."""
    waiting: list[Code | Operand] = [code]
    furthest = 0
    while waiting:
        match waiting.pop():
            case Every(parts) | Some(parts):
                waiting += parts
            case Inverse(part):
                waiting.append(part)
            case Check(left, _, right) | Arithmetic(_, left, right):
                waiting += [left, right]
            case Load(offset, size, index):
                furthest = max(furthest, offset + size + (0 if index is None else _greatest(index)))
                waiting += [] if index is None else [index]
    return furthest


def _greatest(operand: Operand) -> int:
    """A number that the operand's value is never above."""
    match operand:
        case Constant():
            return operand.value if type(operand) is Constant else MASK32
        case Load(_, size, _):
            return (1 << 8 * size) - 1
        case Arithmetic("&", left, right):
            return min(_greatest(left), _greatest(right))
        case Arithmetic("+", left, right):
            return min(_greatest(left) + _greatest(right), MASK32)
        case Arithmetic("<<", left, right) if type(right) is Constant:
            return min(_greatest(left) << min(right.value, 32), MASK32)
        case Arithmetic(">>", left, right) if type(right) is Constant:
            return _greatest(left) >> right.value
    return MASK32
