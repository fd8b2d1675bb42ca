"""Sets of frames for the machine that runs filters, and random programs and frames on which they do something."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import pyarrow as pa

from queries.filters.machine.frames import Frames, Rest, Slices
from queries.filters.program import (
    ACCEPT,
    REJECT,
    Arithmetic,
    ChainEnd,
    Constant,
    Load,
    Operand,
    Program,
    Test,
    WireLength,
)


def slices(rows: Sequence[bytes]) -> Slices:
    """One row of octets for each."""
    return Slices.of_arrow(pa.array(rows, pa.large_binary()))


def frame_set(
    headers: Sequence[bytes], rests: Sequence[bytes] | None = None, **given: Sequence[int]
) -> Frames:
    """Frames of these parts, which libpcap sees whole but for what ``limit`` and ``wire_length`` say."""
    whole = [len(a) + len(b) for a, b in zip(headers, rests or [b""] * len(headers), strict=True)]
    numbers = {"limit": whole, "wire_length": whole} | given
    columns = {name: np.array(values, np.uint32) for name, values in numbers.items()}
    return Frames(slices(headers), rest=None if rests is None else slices(rests), **columns)


def with_rest(frames: Frames, rest: Rest | None) -> Frames:
    """The same frames with another ``rest``."""
    return Frames(frames.header, frames.limit, frames.wire_length, rest)


# Few different octets and numbers, so that comparisons hold

_OCTETS = (0, 0, 1, 2, 3, 6, 44, 51, 60, 128, 255)
_OPERATORS = ("+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>")
_NUMBERS = (0, 1, 2, 3, 4, 6, 8, 31, 32, 33, 51, 255, 256, 257, 2**16, 2**31, 2**32 - 1)


def frame(random: Random) -> bytes:
    """A frame of a few octets, sometimes none or many."""
    length = random.choice((0, 1, random.randrange(64), random.randrange(64), 64, 300))
    return bytes(random.choices(_OCTETS, k=length))


def program(random: Random) -> Program:
    """Tests that lead anywhere ahead, over operands of which some are used often."""
    operands = [_operand(random, 3) for _ in range(random.randint(1, 6))]
    count = random.choice((0, 1, 2, 5, 10, 30, 60))
    chained = random.random() < 0.5
    tests = tuple(_test(random, place, count, operands, chained) for place in range(count))
    before = tuple(_operand(random, 2) for _ in range(random.choice((0, 0, 0, 1, 2))))
    return Program(1, tests, before)


def _test(random: Random, place: int, count: int, operands: list[Operand], chained: bool) -> Test:
    left = random.choice(operands) if random.random() < 0.8 else _operand(random, 3)
    right = Constant(_number(random)) if random.random() < 0.8 else random.choice(operands)
    if random.random() < 0.1:
        left, right = right, left
    if chained and random.random() < 0.8:
        on = place + 1 if place + 1 < count else random.choice((ACCEPT, REJECT))
        return Test(left, "=", right, _target(random, place, count), on)
    operator = random.choice(("=", ">", ">="))
    return Test(left, operator, right, _target(random, place, count), _target(random, place, count))


def _target(random: Random, place: int, count: int) -> int:
    later = range(place + 1, count)
    near = later[: random.choice((1, 3, 100))]
    return random.choice((*near, ACCEPT, REJECT))


def _number(random: Random) -> int:
    if random.random() < 0.7:
        return int.from_bytes(bytes(random.choices(_OCTETS, k=random.choice((1, 1, 2, 4)))), "big")
    return random.choice(_NUMBERS)


def _operand(random: Random, depth: int) -> Operand:
    kind = random.random()
    if depth == 0 or kind < 0.1:
        return random.choice((Constant(_number(random)), Constant(random.choice(_NUMBERS)), WireLength()))
    if kind < 0.6:
        indexed = random.random() < 0.3
        offset = random.choice((0, 14, random.randrange(40), random.randrange(40), 2**32 - 1))
        return Load(offset, random.choice((1, 2, 4)), _operand(random, depth - 1) if indexed else None)
    if kind < 0.65:
        start = Constant(random.randrange(20)) if random.random() < 0.7 else _operand(random, depth - 1)
        return ChainEnd(random.choice((4, 6)), start, random.choice((0, 6, 51, 60, 300)))
    return Arithmetic(random.choice(_OPERATORS), _operand(random, depth - 1), _operand(random, depth - 1))
