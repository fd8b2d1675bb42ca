"""How the machine runs a program: its operands numbered, its tests in stages, each operand as code for a stack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from queries.filters.machine.switches import Stage, Switch, join
from queries.filters.machine.ways import Comparison, follow
from queries.filters.program import Arithmetic, ChainEnd, Constant, Load, Operand, Program, WireLength

_MOST_SHARED = 64  # operands whose values are kept for the time of one window of frames


@dataclass(frozen=True, slots=True)
class Step:
    """One operand; ``parts`` are the numbers of those that it is made of."""

    operand: Operand
    parts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A program, made ready to run.

    Operands are numbers of ``steps``.  ``stages`` lead to later ones only; the first is ``start`` (or ACCEPT or
    REJECT).  ``code`` holds, for every operand that is asked for, the operands to evaluate, parts before wholes;
    those that are ``shared`` are asked for often: they are worth keeping, and are not taken apart in the code of
    others.
    """

    steps: tuple[Step, ...]
    before: tuple[int, ...]
    start: int
    stages: tuple[Stage, ...]
    code: Mapping[int, tuple[int, ...]]
    shared: frozenset[int]


def plan(program: Program) -> Plan:
    """Make a program ready to run; worth keeping where it runs on many sets of frames."""
    operands = _Operands()
    tests = [
        Comparison(operands.number(t.left), t.operator, operands.number(t.right), t.if_true, t.if_false)
        for t in program.tests
    ]
    before = tuple(operands.number(each) for each in program.before)
    start, stages = join(*follow(tests, operands.constants), operands.constants)
    asked = [*before, *(number for stage in stages for number in _asked(stage))]
    shared = _shared(operands.steps, asked)
    code = {number: _code(operands.steps, number, shared) for number in {*asked, *shared}}
    return Plan(tuple(operands.steps), before, start, tuple(stages), code, shared)


def reach(program: Program) -> int | None:
    """How many of a frame's first octets the program can load at most; None where that depends on the frame."""
    pending = [*program.before, *(side for test in program.tests for side in (test.left, test.right))]
    furthest = 0
    while pending:
        operand = pending.pop()
        if isinstance(operand, ChainEnd) or (isinstance(operand, Load) and operand.index is not None):
            return None
        if isinstance(operand, Load):
            furthest = max(furthest, operand.offset + operand.size)
        pending.extend(_parts(operand))
    return furthest


def _parts(operand: Operand) -> tuple[Operand, ...]:
    if isinstance(operand, Load):
        return () if operand.index is None else (operand.index,)
    if isinstance(operand, Arithmetic):
        return operand.left, operand.right
    return (operand.start,) if isinstance(operand, ChainEnd) else ()


class _Operands:
    """Numbers the operands of one program, parts before wholes, equal ones alike.

    There is no recursion, since sums may be long; an operand that stands in many others is gone through once.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.constants: dict[int, int] = {}
        self._known: dict[object, int] = {}
        self._by_identity: dict[int, int] = {}

    def number(self, whole: Operand) -> int:
        numbers = self._by_identity
        if id(whole) in numbers:
            return numbers[id(whole)]
        pending = [whole]
        while id(whole) not in numbers:
            parts = _parts(pending[-1])
            missing = [part for part in parts if id(part) not in numbers]
            pending.extend(missing)
            if not missing:
                operand = pending.pop()
                numbers[id(operand)] = self._numbered(operand, tuple([numbers[id(part)] for part in parts]))
        return numbers[id(whole)]

    def _numbered(self, operand: Operand, parts: tuple[int, ...]) -> int:
        key = (_words(operand), parts) if parts else operand
        number = self._known.setdefault(key, len(self.steps))
        if number == len(self.steps):
            self.steps.append(Step(operand, parts))
            if isinstance(operand, Constant):
                self.constants[number] = operand.value
        return number


def _words(operand: Operand) -> tuple[object, ...]:
    """What an operand with parts says besides them."""
    match operand:
        case Load(offset, size, _):
            return offset, size
        case Arithmetic(word, _, _):
            return (word,)
        case ChainEnd(version, _, number):
            return version, None, number
    raise AssertionError(operand)


def _asked(stage: Stage) -> tuple[int, ...]:
    if isinstance(stage, Switch):
        return tuple(lookup.operand for lookup in stage.lookups)
    return stage.left, stage.right


def _shared(steps: Sequence[Step], asked: Iterable[int]) -> frozenset[int]:
    """The operands with the most uses, of those with two at least that cost something."""
    uses = Counter(asked)
    for number in range(len(steps) - 1, -1, -1):
        if number in uses:
            uses.update(steps[number].parts)
    often = Counter({number: count for number, count in uses.items() if count > 1})
    for number in [n for n in often if isinstance(steps[n].operand, Constant | WireLength)]:
        del often[number]
    return frozenset(number for number, _ in often.most_common(_MOST_SHARED))


def _code(steps: Sequence[Step], whole: int, shared: frozenset[int]) -> tuple[int, ...]:
    code: list[int] = []
    pending = [whole]
    while pending:
        number = pending.pop()
        code.append(number)
        if number == whole or number not in shared:
            pending.extend(steps[number].parts)
    return tuple(reversed(code))
