"""Long lists of alternatives, such as thousands of hosts, put together by what each of them asks first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from queries.filters.generate.code import Check, Code, Every, Some
from queries.filters.program import Constant, Operand

LONG = 64
"""Alternatives of a list that is long; of shorter ones, programs are laid out as libpcap's are."""


_DEEPEST = 4  # numbers that are asked for one after the other: EtherType, protocol, …


def grouped(code: Code, *, long: int = LONG) -> Code:
    """The code, where alternatives that ask whether the same operand is one number or another come number by number.

    ``x = 1 and a or x = 2 and b or x = 1 and c`` is ``x = 1 and (a or c) or x = 2 and b``: a frame has one ``x``, so
    the same loads are made in the same order.  What a comparison leaves in registers must not be read.
    """
    if isinstance(code, Every):
        return Every(tuple(_grouped(part, long, _DEEPEST) for part in code.parts))
    return _grouped(code, long, _DEEPEST)


def _grouped(code: Code, long: int, depth: int) -> Code:
    if not isinstance(code, Some) or len(code.parts) < long or not depth:
        return code
    result: list[Code] = []
    for operand, run in groupby(_alternatives(code), key=_asked_first):
        alternatives = list(run)
        if operand is None or len(alternatives) < long:
            result += alternatives
        else:
            result += [
                Every((first, _grouped(Some(tuple(rest)), long, depth - 1)))
                for first, rest in _by_number(alternatives)
            ]
    return Some(tuple(result))


def _alternatives(code: Some) -> Iterator[Code]:
    """The parts, and those of parts that are lists themselves, in order."""
    waiting: list[Code] = [code]
    while waiting:
        match waiting.pop():
            case Some(parts):
                waiting.extend(reversed(parts))
            case part:
                yield part


def _asked_first(code: Code) -> Operand | None:
    """The operand that must be a number before anything else is asked."""
    match code:
        case Every((Check(left, "=", right, stores=()), _, *_)) if type(right) is Constant:
            return left
    return None


def _by_number(alternatives: Iterable[Code]) -> Iterable[tuple[Check, list[Code]]]:
    """What is asked first, and what each of the alternatives that do so asks then."""
    found: dict[int, tuple[Check, list[Code]]] = {}
    for alternative in alternatives:
        match alternative:
            case Every((Check(_, _, Constant(number)) as first, *rest)):
                _, others = found.setdefault(number, (first, []))
                others.append(rest[0] if len(rest) == 1 else Every(tuple(rest)))
    return found.values()
