"""A filter's program on one frame, step by step: what the machine that runs many frames at once is compared with."""

from __future__ import annotations

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


class RejectedError(Exception):
    """A load outside of the frame, or a division by zero."""


class EndlessError(RejectedError):
    """A walk that goes in circles, which libpcap does not notice."""


def accepts(program: Program, frame: bytes, wire_length: int) -> bool:
    """Whether the program accepts a frame of which libpcap sees these octets."""
    try:
        for operand in program.before:
            value(operand, frame, wire_length)
        return _outcome(program, frame, wire_length)
    except RejectedError:
        return False


def _outcome(program: Program, frame: bytes, wire_length: int) -> bool:
    place = 0 if program.tests else ACCEPT
    while place >= 0:
        test = program.tests[place]
        left, right = value(test.left, frame, wire_length), value(test.right, frame, wire_length)
        true = {"=": left == right, ">": left > right, ">=": left >= right}[test.operator]
        after = test.if_true if true else test.if_false
        assert after < 0 or after > place
        place = after
    return place == ACCEPT


def value(operand: Operand, frame: bytes, wire_length: int) -> int:
    """An operand's value; raises :class:`RejectedError`."""
    match operand:
        case Constant(number):
            return number
        case WireLength():
            return wire_length
        case Load(offset, size, index):
            start = offset + (value(index, frame, wire_length) if index is not None else 0)
            return _load(frame, start, size)
        case Arithmetic(operator, left, right):
            return _arithmetic(operator, value(left, frame, wire_length), value(right, frame, wire_length))
        case ChainEnd(version, start, number):
            return _chain_end(frame, version, value(start, frame, wire_length), number)


def _load(frame: bytes, start: int, size: int) -> int:
    if start + size > len(frame):
        raise RejectedError
    return int.from_bytes(frame[start : start + size], "big")


def _arithmetic(operator: str, left: int, right: int) -> int:
    if operator in "/%":
        if right == 0:
            raise RejectedError
        return left // right if operator == "/" else left % right
    if operator in ("<<", ">>"):
        if right > 31:
            return 0
        return (left << right) % 2**32 if operator == "<<" else left >> right
    results = {
        "+": left + right,
        "-": left - right,
        "*": left * right,
        "&": left & right,
        "|": left | right,
        "^": left ^ right,
    }
    return results[operator] % 2**32


def _chain_end(frame: bytes, version: int, start: int, number: int) -> int:
    """The walk as libpcap 1.10's code for ``protochain`` makes it (gen_protochain)."""
    protocol = _load(frame, start + (9 if version == 4 else 6), 1)
    place = 4 * (_load(frame, start, 1) & 15) if version == 4 else 40
    seen = set()
    while protocol != number and (protocol == 51 or (version == 6 and protocol in (0, 43, 44, 60))):
        if (protocol, place) in seen:
            raise EndlessError
        seen.add((protocol, place))
        following, length = _load(frame, start + place, 1), _load(frame, start + place + 1, 1)
        place = (length + 2) * 4 if protocol == 51 else place + (length + 1) * 8
        protocol = following
    return int(protocol == number)
