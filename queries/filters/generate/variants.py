"""Comparisons that depend on the way that led to them, made into several: one for each way that makes a difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pcap2arrow.errors import LimitError
from queries.filters.generate.code import MASK32, Accumulator, Check, Register
from queries.filters.generate.tree import Linked
from queries.filters.program import Arithmetic, Constant, Load, Operand, WireLength

_MOST = 200_000

_Known = dict[int, Operand]
"""Operands that depend on nothing, by the identity of those that they have come from."""


@dataclass(frozen=True, slots=True, eq=False)
class _Registers:
    """What registers hold, on some ways; those that are not ``held`` hold 0."""

    held: Mapping[int, Operand]
    known: _Known = field(default_factory=dict)


_Way = tuple[_Registers, Operand]
"""What registers and accumulator hold where a comparison is reached."""

_Key = tuple[int, int]
"""Which ways to a comparison it treats alike: by the identity of its registers, and if it asks for that of the
accumulator."""


def resolved(
    comparisons: list[Linked], registers: Mapping[int, Operand], *, reads_accumulator: bool
) -> list[Linked]:
    """The same comparisons, but none of them reads a register or the accumulator.

    ``registers`` is what some hold from the start, ``reads_accumulator`` says whether any comparison does.  Raises
    :class:`LimitError` where the result would be too long.
    """
    readers = {
        n for n, (check, *_) in enumerate(comparisons) if reads_accumulator and _reads_accumulator(check)
    }
    ways: list[dict[_Key, _Way]] = [{} for _ in comparisons]
    ways[0][0, 0] = _Registers(registers), Constant(0)
    found: list[tuple[Check, tuple[int, _Key], tuple[int, _Key]]] = []
    numbers: dict[tuple[int, _Key], int] = {}
    later = _read_later(comparisons)
    for place, (check, if_true, if_false) in enumerate(comparisons):
        needed = _either(later, if_true, if_false)
        for key, way in ways[place].items():
            if len(found) == _MOST:
                raise LimitError("the filter expression goes too many ways through tunnels")
            numbers[place, key] = len(found)
            own, after = _passed(check, way, needed, is_reader=place in readers)
            targets = [
                _reach(ways, target, after, is_reader=target in readers) for target in (if_true, if_false)
            ]
            found.append((own, targets[0], targets[1]))
    return [(own, numbers.get(one, one[0]), numbers.get(other, other[0])) for own, one, other in found]


def _read_later(comparisons: list[Linked]) -> list[int]:
    """For each comparison the registers, as bits, that it or one after it reads, as they are where it is reached."""
    later = [0] * len(comparisons)
    for place in range(len(comparisons) - 1, -1, -1):
        check, *targets = comparisons[place]
        read = _either(later, *targets)
        for number, _ in check.stores:
            read &= ~(1 << number)
        later[place] = read | _registers_read(check)
    return later


def _either(later: list[int], if_true: int, if_false: int) -> int:
    return (later[if_true] if if_true >= 0 else 0) | (later[if_false] if if_false >= 0 else 0)


def _registers_read(check: Check) -> int:
    """The registers that a comparison reads, as bits."""
    read = 0
    pending = [check.left, check.right, *(operand for _, operand in check.stores)]
    if check.accumulator is not None:
        pending.append(check.accumulator)
    while pending:
        operand = pending.pop()
        if isinstance(operand, Register):
            read |= 1 << operand.number
        pending.extend(_parts(operand))
    return read


def _passed(check: Check, way: _Way, needed: int, *, is_reader: bool) -> tuple[Check, _Way]:
    """A comparison as it is on a way, and the way after it, on which the registers ``needed`` (bits) may be read."""
    registers, _ = way
    known = {} if is_reader else registers.known
    left, right = _resolved(check.left, way, known), _resolved(check.right, way, known)
    after = left if check.accumulator is None else _resolved(check.accumulator, way, known)
    stores = [(number, operand) for number, operand in check.stores if needed >> number & 1]
    if stores:
        stored = {number: _resolved(operand, way, known) for number, operand in stores}
        registers = _Registers({**registers.held, **stored})
    return Check(left, check.operator, right), (registers, after)


def _reach(ways: list[dict[_Key, _Way]], target: int, way: _Way, *, is_reader: bool) -> tuple[int, _Key]:
    if target < 0:
        return target, (0, 0)
    registers, accumulator = way
    key = id(registers), id(accumulator) if is_reader else 0
    ways[target].setdefault(key, way)
    return target, key


def _reads_accumulator(check: Check) -> bool:
    operands = [check.left, check.right]
    while operands:
        operand = operands.pop()
        if isinstance(operand, Accumulator):
            return True
        operands.extend(_parts(operand))
    return False


def _resolved(whole: Operand, way: _Way, known: _Known) -> Operand:
    """An operand as it is on a way."""
    if type(whole) is Constant or type(whole) is WireLength:
        return whole
    pending = [] if id(whole) in known else [whole]
    while pending:
        operand = pending[-1]
        parts = _parts(operand)
        missing = [part for part in parts if id(part) not in known]
        pending.extend(missing)
        if not missing:
            pending.pop()
            known[id(operand)] = _rebuilt(operand, [known[id(part)] for part in parts], way)
    return known[id(whole)]


def _parts(operand: Operand) -> tuple[Operand, ...]:
    match operand:
        case Load(index=index) if index is not None:
            return (index,)
        case Arithmetic(left=left, right=right):
            return left, right
    return ()


def _rebuilt(operand: Operand, parts: list[Operand], way: _Way) -> Operand:
    registers, accumulator = way
    match operand:
        case Register(number=number):
            return registers.held.get(number, Constant(0))
        case Accumulator():
            return accumulator
        case Load(offset, size, index) if index is not None and parts[0] is not index:
            known = parts[0]
            if isinstance(known, Constant) and offset + known.value <= MASK32:
                return Load(offset + known.value, size)
            return Load(offset, size, known)
        case Arithmetic(operator, left, right) if parts[0] is not left or parts[1] is not right:
            return Arithmetic(operator, *parts)
    return operand
