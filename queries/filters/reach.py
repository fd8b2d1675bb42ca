"""Whether a program can accept anything at all."""

from __future__ import annotations

from queries.filters.program import ACCEPT, Arithmetic, Constant, Load, Operand, Program, Test

_MOST_STEPS = 20_000


def accepts_nothing(program: Program) -> bool:
    """Whether every way through the tests contradicts itself: a load can't have two values.

    Programs with too many ways are taken to accept something.
    """
    if not program.tests:
        return False
    waiting: list[tuple[int, dict[Operand, int]]] = [(0, {})]
    for _ in range(_MOST_STEPS):
        if not waiting:
            return True
        place, known = waiting.pop()
        test = program.tests[place]
        for target, then in reversed(_ways(test, known)):  # so that what is true is gone on with first
            if target == ACCEPT:
                return False
            if target >= 0:
                waiting.append((target, then))
    return False


def _ways(test: Test, known: dict[Operand, int]) -> list[tuple[int, dict[Operand, int]]]:
    """Where a test may lead, and what is known there."""
    left, right = _value(test.left, known), _value(test.right, known)
    if left is None or right is None:
        equal = known
        if test.operator == "=" and right is not None and isinstance(test.left, Load):
            equal = {**known, test.left: right}
        return [(test.if_true, equal), (test.if_false, known)]
    holds = {"=": left == right, ">": left > right, ">=": left >= right}[test.operator]
    return [(test.if_true if holds else test.if_false, known)]


def _value(operand: Operand, known: dict[Operand, int]) -> int | None:
    match operand:
        case Constant(value):
            return value
        case Load(_, _, None):
            return known.get(operand)
        case Arithmetic("&", Load(_, _, None) as load, Constant(mask)) if load in known:
            return known[load] & mask
    return None
