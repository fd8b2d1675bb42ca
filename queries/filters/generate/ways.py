"""Comparisons that depend on the way that led to them, made into several: one for each way that makes a difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pcap2arrow.errors import LimitError
from queries.filters.generate.code import Accumulator, Check, Register
from queries.filters.generate.tree import Linked
from queries.filters.program import Arithmetic, Constant, Load, Operand

_MOST = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class _Way:
    """What is known where a comparison is reached, with operands already made independent of the way."""

    registers: Mapping[int, Operand]
    accumulator: Operand
    known: dict[int, Operand] = field(default_factory=dict)


_Key = tuple[int, int]


def resolved(comparisons: list[Linked]) -> list[Linked]:
    """The same comparisons, but none of them reads a register or the accumulator.

    Raises :class:`LimitError` where that are too many.
    """
    ways: list[dict[_Key, _Way]] = [{} for _ in comparisons]
    ways[0][0, 0] = _Way({}, Constant(0))
    reached: list[tuple[Check, tuple[int, _Key], tuple[int, _Key]]] = []
    numbers: dict[tuple[int, _Key], int] = {}
    for place, each in enumerate(comparisons):
        for key, way in ways[place].items():
            numbers[place, key] = len(reached)
            if len(reached) == _MOST:
                raise LimitError("the filter expression goes too many ways through tunnels")
            check = _resolved_check(each.check, way)
            after = _after(check, way)
            targets = [_reach(comparisons, ways, target, after) for target in (each.if_true, each.if_false)]
            reached.append((check, targets[0], targets[1]))
    return [
        Linked(check, numbers.get(one, one[0]), numbers.get(other, other[0])) for check, one, other in reached
    ]


def _after(check: Check, way: _Way) -> _Way:
    """What is known after a comparison."""
    accumulator = check.left if check.accumulator is None else check.accumulator
    if not check.stores:
        return _Way(way.registers, accumulator)
    stored = {register.number: operand for register, operand in check.stores}
    return _Way({**way.registers, **stored}, accumulator)


def _reach(
    comparisons: list[Linked], ways: list[dict[_Key, _Way]], target: int, way: _Way
) -> tuple[int, _Key]:
    if target < 0:
        return target, (0, 0)
    accumulator = id(way.accumulator) if _reads_accumulator(comparisons[target].check) else 0
    key = id(way.registers), accumulator
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


def _resolved_check(check: Check, way: _Way) -> Check:
    accumulator = None if check.accumulator is None else _resolved_operand(check.accumulator, way)
    stores = tuple((register, _resolved_operand(operand, way)) for register, operand in check.stores)
    left, right = _resolved_operand(check.left, way), _resolved_operand(check.right, way)
    return Check(left, check.operator, right, accumulator, stores)


def _resolved_operand(whole: Operand, way: _Way) -> Operand:
    pending = [whole]
    while pending:
        operand = pending[-1]
        parts = _parts(operand)
        missing = [part for part in parts if id(part) not in way.known]
        pending.extend(missing)
        if not missing:
            pending.pop()
            way.known[id(operand)] = _rebuilt(operand, [way.known[id(part)] for part in parts], way)
    return way.known[id(whole)]


def _parts(operand: Operand) -> tuple[Operand, ...]:
    match operand:
        case Load(index=index) if index is not None:
            return (index,)
        case Arithmetic(left=left, right=right):
            return left, right
    return ()


def _rebuilt(operand: Operand, parts: list[Operand], way: _Way) -> Operand:
    match operand:
        case Register(number=number):
            return way.registers.get(number, Constant(0))
        case Accumulator():
            return way.accumulator
        case Load(offset, size, index) if index is not None and parts[0] is not index:
            return Load(offset, size, parts[0])
        case Arithmetic(operator, left, right) if parts[0] is not left or parts[1] is not right:
            return Arithmetic(operator, *parts)
    return operand
