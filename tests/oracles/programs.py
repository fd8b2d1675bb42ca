"""A plain interpreter of filter programs, for one frame at a time."""

from __future__ import annotations

import operator
from collections.abc import Callable

from queries.filters.program import (
    ACCEPT,
    Arithmetic,
    ChainEnd,
    Constant,
    Load,
    Operand,
    Program,
    WireLength,
)

_COMPARISONS = {"=": operator.eq, ">": operator.gt, ">=": operator.ge}
_MOST_STEPS = 64


class _RejectedError(Exception):
    pass


def accepts(program: Program, frame: bytes, wire_length: int | None = None) -> bool:
    """Whether a program accepts a frame that was captured as these octets of ``wire_length`` (None: all)."""
    length = len(frame) if wire_length is None else wire_length
    try:
        for operand in program.before:
            _value(operand, frame, length)
        place = 0 if program.tests else ACCEPT
        while place >= 0:
            test = program.tests[place]
            left, right = _value(test.left, frame, length), _value(test.right, frame, length)
            following = test.if_true if _COMPARISONS[test.operator](left, right) else test.if_false
            assert following < 0 or place < following < len(program.tests), "goes backwards"
            place = following
    except _RejectedError:
        return False
    return place == ACCEPT


def _value(operand: Operand, frame: bytes, length: int) -> int:
    match operand:
        case Constant(value):
            return value
        case WireLength():
            return length
        case Load(offset, size, index):
            return _octets(frame, offset + (0 if index is None else _value(index, frame, length)), size)
        case Arithmetic(name, left, right):
            return _ARITHMETIC[name](_value(left, frame, length), _value(right, frame, length)) & 0xFFFF_FFFF
        case ChainEnd(version, start, number):
            return _chain_end(frame, version, _value(start, frame, length), number)
    raise AssertionError(operand)


def _octets(frame: bytes, start: int, size: int) -> int:
    if start + size > len(frame):
        raise _RejectedError
    return int.from_bytes(frame[start : start + size])


def _divided(by: Callable[[int, int], int]) -> Callable[[int, int], int]:
    def divide(left: int, right: int) -> int:
        if right == 0:
            raise _RejectedError
        return by(left, right)

    return divide


_ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divided(operator.floordiv),
    "%": _divided(operator.mod),
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
    "<<": lambda left, right: left << right if right < 32 else 0,
    ">>": lambda left, right: left >> right if right < 32 else 0,
}


def _chain_end(frame: bytes, version: int, start: int, number: int) -> int:
    protocol = _octets(frame, start + (9 if version == 4 else 6), 1)
    position = 4 * (_octets(frame, start, 1) & 0xF) if version == 4 else 40
    steps = 0
    while protocol not in (number, 59):
        if version == 6 and protocol in (0, 43, 44, 60):
            following = _octets(frame, start + position, 1)
            position += 8 * (_octets(frame, start + position + 1, 1) + 1)
        elif protocol == 51:
            following = _octets(frame, start + position, 1)
            position = 4 * (_octets(frame, start + position + 1, 1) + 2)
        else:
            break
        protocol = following
        steps += 1
        if steps > _MOST_STEPS:
            raise _RejectedError
    return int(protocol == number)
