"""Filters as expressions of Polars that are true, false or unknown, whatever their loads read from.

Code is translated comparison by comparison.  What a load at a fixed place reads may depend on the comparisons before
it, so places are looked up with what is known there.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol

import polars as pl

from queries.filters.generate.code import ALWAYS, NEVER, Check, Code, Every, Inverse, Some
from queries.filters.program import Arithmetic, Constant, Load, Operand, WireLength
from queries.filters.simplify import NOTHING, Known, simplified

MASK32 = 0xFFFF_FFFF
FALSE, TRUE, UNKNOWN = 0, 1, 2
COMPARE: dict[str, Callable[[Any, Any], pl.Expr]] = {"=": operator.eq, ">": operator.gt, ">=": operator.ge}
OF_SIZE = {1: pl.UInt8, 2: pl.UInt16, 4: pl.UInt32}
"""The type of a load of so many octets."""

_DEEPEST = 60
_NUMBERS = tuple(map(pl.lit, (FALSE, TRUE, UNKNOWN, 3, 4)))
"""Made once: Polars takes its time."""

_LEAST, _TRUE, _MOST, _THREE, _FOUR = _NUMBERS


@dataclass(frozen=True, slots=True)
class Told:
    """An expression, and which of FALSE, TRUE and UNKNOWN may come of it.

    Its values are these numbers if it is ``ternary``, else Booleans, with null for what is unknown.  ``contrary`` is
    what it was made the inverse of, if anything.
    """

    expression: pl.Expr
    outcomes: frozenset[int]
    ternary: bool = False
    contrary: Told | None = None

    @property
    def is_complete(self) -> bool:
        """Whether it is never unknown."""
        return UNKNOWN not in self.outcomes

    def boolean(self) -> pl.Expr:
        """The expression as Booleans."""
        if self.ternary:
            return pl.when(self.expression != _MOST).then(self.expression == _TRUE)
        return self.expression

    def is_true(self) -> pl.Expr:
        """The expression as Booleans, false for what is unknown."""
        return self.expression == _TRUE if self.ternary else self.expression.fill_null(False)

    def inverse(self) -> Told:
        """The contrary; what is unknown stays so."""
        if self.contrary is not None:
            return self.contrary
        outcomes = frozenset((1 - each) % 3 for each in self.outcomes)
        expression = (_FOUR - self.expression) % _THREE if self.ternary else ~self.expression
        return Told(expression, outcomes, self.ternary, self)

    def and_then(self, other: Told) -> Told:
        """Whether both hold, from left to right: where this one is unknown, so are both.

        No expression stands in the result twice, or long ones would grow beyond all bounds.
        """
        if TRUE not in self.outcomes:
            return self
        outcomes = self.outcomes - {TRUE} | other.outcomes
        if self.is_complete and not other.ternary:
            return Told(self.expression & other.expression, outcomes)
        both = _THREE * self._numbers() + other._numbers() - _THREE
        return Told(both.clip(_LEAST, _MOST), outcomes, ternary=True)

    def or_else(self, other: Told) -> Told:
        """Whether one holds at least, from left to right."""
        if FALSE in self.outcomes and self.is_complete and not other.ternary:
            return Told(self.expression | other.expression, self.outcomes - {FALSE} | other.outcomes)
        return self.inverse().and_then(other.inverse()).inverse()

    def _numbers(self) -> pl.Expr:
        return self.expression if self.ternary else self.expression.cast(pl.Int8).fill_null(_MOST)


NOT_TOLD = Told(pl.lit(None, pl.Boolean), frozenset((UNKNOWN,)))


def told(expression: pl.Expr) -> Told:
    """What is true or false of every frame."""
    return Told(expression, frozenset((FALSE, TRUE)))


class Reading(Protocol):
    """What loads read from."""

    def load(self, load: Load, known: Known) -> pl.Expr | None:
        """The octets as unsigned number; None where that can't be told."""

    def wire_length(self) -> pl.Expr | None:
        """The frame's length on the wire."""

    def compared(self, check: Check, known: Known, *, absent: bool = False) -> Told:
        """What a comparison comes to that is neither always true nor always false; ``absent`` without its header."""

    def is_implied(self, part: Code, following: Sequence[Code], known: Known) -> bool:
        """Whether a part may be left out of a conjunction, as one of those ``following`` can't hold without it."""


def translated(code: Code, reading: Reading, known: Known = NOTHING) -> Told:
    """The code's expression, given what is known; it calls itself, so depth must be bounded (:func:`is_small`)."""
    match code:
        case Check():
            if code in (ALWAYS, NEVER):
                return Told(pl.lit(code == ALWAYS), frozenset((TRUE if code == ALWAYS else FALSE,)))
            return reading.compared(code, known)
        case Inverse(Check() as check) if check not in (ALWAYS, NEVER):
            return reading.compared(check, known, absent=True).inverse()
        case Inverse(part):
            return translated(part, reading, known).inverse()
        case Every(parts):
            results, known = conjuncts(parts, reading, known)
            return reduce(Told.and_then, results)
        case Some(parts):
            return reduce(Told.or_else, (translated(part, reading, known) for part in parts))


def conjuncts(
    parts: Sequence[Code], reading: Reading, known: Known = NOTHING, *, following: Sequence[Code] = ()
) -> tuple[list[Told], Known]:
    """What the first parts of a conjunction come to, and what is known where all hold.

    Those are left out that others imply, one of the parts or of those ``following``.
    """
    results = []
    for place, part in enumerate(parts, start=1):
        after = simplified(part, known).known
        if not reading.is_implied(part, (*parts[place:], *following), after):
            results.append(translated(part, reading, known))
        known = after
    return results, known


def value(operand: Operand, reading: Reading, known: Known) -> pl.Expr | None:
    """An operand's value; None where that can't be told."""
    match operand:
        case WireLength():
            return reading.wire_length()
        case Load():
            return reading.load(operand, known)
        case Arithmetic(sign, left, right):
            return _arithmetic(sign, value(left, reading, known), value(right, reading, known), right)
    return pl.lit(operand.value, pl.UInt32) if type(operand) is Constant else None


def comparison(check: Check, reading: Reading, known: Known) -> pl.Expr | None:
    """A comparison of values, null where one is; None where that can't be told."""
    left = value(check.left, reading, known)
    right = check.right.value if type(check.right) is Constant else value(check.right, reading, known)
    if left is None or right is None or check.stores:
        return None
    return COMPARE[check.operator](left, right)


def _arithmetic(sign: str, left: pl.Expr | None, right: pl.Expr | None, operand: Operand) -> pl.Expr | None:
    """Modulo 2³²; only what can't reject."""
    if left is None or right is None:
        return None
    wide = pl.UInt64 if sign in ("+", "-", "*", "<<") else pl.UInt32
    left, right = left.cast(wide), right.cast(wide)
    constant = operand.value if type(operand) is Constant else None
    match sign:
        case "&":
            return left & right
        case "|":
            return left | right
        case "^":
            return left ^ right
        case "+":
            return (left + right) & MASK32
        case "-":
            return (left + (1 << 32) - right) & MASK32
        case "*":
            return (left * right) & MASK32
        case "/" if constant:
            return left // right
        case "%" if constant:
            return left % right
        case "<<" if constant is not None:
            return (left * (1 << constant)) & MASK32 if constant < 32 else pl.lit(0, pl.UInt64)
        case ">>" if constant is not None:
            return left // (1 << constant) if constant < 32 else pl.lit(0, pl.UInt64)
    return None


def is_small(code: Code, most_parts: int) -> bool:
    """Whether code has no more parts than that, and functions that call themselves may go through it."""
    parts, waiting = 0, list[tuple[Code | Operand, int]]([(code, 0)])
    while waiting:
        node, depth = waiting.pop()
        parts += 1
        if depth > _DEEPEST or parts > most_parts:
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
