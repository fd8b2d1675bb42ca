"""The code of a term before it is laid out: comparisons, joined by and, or and not."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

from queries.filters.program import Arithmetic, Constant, Load, Operand

MASK32 = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Accumulator(Constant):
    """What the comparison before has left in libpcap's accumulator; 0 where there was none."""

    value: int = 0


@dataclass(frozen=True, slots=True)
class Register(Constant):
    """What a register of libpcap's machine holds: set at the start, or by a comparison with ``stores``, else 0."""

    value: int = 0
    number: int = 0


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison, as in :class:`queries.filters.program.Test`.

    ``accumulator`` is what it leaves there, None: ``left``; ``stores`` is what it sets registers to, true or not.
    """

    left: Operand
    operator: Literal["=", ">", ">="]
    right: Operand
    accumulator: Operand | None = None
    stores: tuple[tuple[int, Operand], ...] = ()


@dataclass(frozen=True, slots=True)
class Every:
    """All of the parts (one at least), in order."""

    parts: tuple[Code, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """Any of the parts (one at least), in order."""

    parts: tuple[Code, ...]


@dataclass(frozen=True, slots=True)
class Inverse:
    """The contrary of a part."""

    part: Code


Code = Check | Every | Some | Inverse

ALWAYS = Check(Constant(0), "=", Constant(0))
NEVER = Check(Constant(1), "=", Constant(0))


def every(*parts: Code) -> Code:
    """All of them, in order."""
    return Every(parts)


def some(*parts: Code) -> Code:
    """Any of them, in order."""
    return Some(parts)


def equal(load: Operand, value: int, mask: int = MASK32) -> Check:
    """Whether the bits of ``mask`` in ``load`` are ``value``."""
    return Check(masked(load, mask), "=", Constant(value & MASK32))


def masked(load: Operand, mask: int) -> Operand:
    """The bits of ``mask`` in ``load``."""
    return load if mask == MASK32 else Arithmetic("&", load, Constant(mask))


def above(load: Operand, value: int) -> Check:
    """Whether ``load`` is greater than ``value``."""
    return Check(load, ">", Constant(value))


def at_most(load: Operand, value: int) -> Code:
    """Whether ``load`` is no greater than ``value``."""
    return Inverse(above(load, value))


def any_bit(load: Operand, bits: int) -> Check:
    """Whether any of the bits is set; a jump of libpcap's machine, which keeps ``load`` in the accumulator."""
    return Check(masked(load, bits), ">", Constant(0), accumulator=load)


def no_bit(load: Operand, bits: int) -> Code:
    """Whether none of the bits is set."""
    return Inverse(any_bit(load, bits))


def plus(left: Operand, right: Operand | int) -> Operand:
    """The sum modulo 2³²."""
    return Arithmetic("+", left, Constant(right) if isinstance(right, int) else right)


def is_equal(left: Operand, value: int) -> Operand:
    """1 where ``left`` is ``value``, else 0: for places that depend on what a header says."""
    difference = Arithmetic("^", left, Constant(value))
    negative = Arithmetic("-", Constant(0), difference)
    sign = Arithmetic(">>", Arithmetic("|", difference, negative), Constant(31))
    return Arithmetic("^", sign, Constant(1))


def bit(number: Operand, position: int) -> Operand:
    """One bit of a number, 1 or 0."""
    return Arithmetic("&", Arithmetic(">>", number, Constant(position)), Constant(1))


def product(left: Operand, right: Operand | int) -> Operand:
    """The product modulo 2³²."""
    return Arithmetic("*", left, Constant(right) if isinstance(right, int) else right)


def both_bits(left: Operand, right: Operand) -> Operand:
    """1 where both (1 or 0) are 1, else 0."""
    return Arithmetic("&", left, right)


def load(offset: int, size: Literal[1, 2, 4], index: Operand | None = None) -> Load:
    """Octets at a place whose constant part wraps as libpcap's does, where an offset that it never set takes part."""
    return _plain_load(offset & MASK32, size) if index is None else Load(offset & MASK32, size, index)


@functools.lru_cache(maxsize=4096)
def _plain_load(offset: int, size: Literal[1, 2, 4]) -> Load:
    """The same object for the same place, of which long expressions ask for few, often."""
    return Load(offset, size)
