"""Ways through the tests of a program, without the tests that an earlier one on the same way has answered.

libpcap's unoptimised code asks again and again (is it IPv4? TCP?) for every term of an expression.  No load is left
out but those that were made before on the same way, so what a load rejects stays rejected.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from queries.filters.program import ACCEPT, REJECT

COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {"=": operator.eq, ">": operator.gt, ">=": operator.ge}
"""The operators of tests, for numbers and for arrays of them."""

# A program may have very many ways: where there are, some are treated alike, as if they knew less.
_MOST_CONSTANTS = (
    16  # that an operand is compared with, if ways are to differ in its value (as of an EtherType)
)
_MOST_FACTS = 12  # that a way remembers
_MOST_WAYS, _FEW_WAYS = 32, 1  # that come to one test, each with facts of its own: at first, then
_NODES_PER_TEST = 2  # at first
_ANSWERS_PER_TEST = 32  # tests left out before no more are


@dataclass(frozen=True, slots=True)
class Comparison:
    """A test of two operands, by number; where to go are numbers too, or ACCEPT or REJECT."""

    left: int
    operator: str
    right: int
    if_true: int
    if_false: int


def follow(tests: Sequence[Comparison], constants: Mapping[int, int]) -> tuple[int, list[Comparison]]:
    """Where to start, and what remains to be compared; ``constants`` are the values of operands that are constant.

    A test may remain more than once, as ways that know different things about it lead elsewhere afterwards.
    """
    return _without_twins(*_Ways(tests, constants).followed())


def _without_twins(start: int, comparisons: Sequence[Comparison]) -> tuple[int, list[Comparison]]:
    """The same, where comparisons that lead to the same places are one, and none that leads to REJECT alone."""
    goals = {ACCEPT: ACCEPT, REJECT: REJECT}
    known: dict[Comparison, int] = {}
    for number in range(len(comparisons) - 1, -1, -1):
        comparison = _led(comparisons[number], goals)
        nowhere = comparison.if_true == comparison.if_false == REJECT
        goals[number] = REJECT if nowhere else known.setdefault(comparison, number)
    kept = dict(reversed(known.items()))
    numbers = {number: place for place, number in enumerate(kept.values())} | {ACCEPT: ACCEPT, REJECT: REJECT}
    return numbers[goals[start]], [_led(comparison, numbers) for comparison in kept]


def _led(comparison: Comparison, numbers: Mapping[int, int]) -> Comparison:
    """The comparison, with its targets numbered otherwise."""
    if_true, if_false = numbers[comparison.if_true], numbers[comparison.if_false]
    return Comparison(comparison.left, comparison.operator, comparison.right, if_true, if_false)


_Question = tuple[int, str, int]


def _question(test: Comparison) -> _Question:
    return test.left, test.operator, test.right


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a way knows: values of operands, and answers to other questions.  All of these loads were made on it."""

    values: Mapping[int, int] = field(default_factory=dict)
    answers: Mapping[_Question, bool] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values) + len(self.answers)

    def includes(self, other: _Facts) -> bool:
        """Whether the other knows nothing more."""
        return self.values.items() >= other.values.items() and self.answers.items() >= other.answers.items()


_NOTHING = _Facts()


class _Ways:
    """Follows all ways through the tests; ways that come to a test with the same useful facts are one."""

    def __init__(self, tests: Sequence[Comparison], constants: Mapping[int, int]) -> None:
        self._tests = tests
        self._constants = constants
        self._last_asked = {_question(test): place for place, test in enumerate(tests)}
        self._last_compared: dict[int, int] = {}
        for place, test in enumerate(tests):
            self._last_compared[test.left] = self._last_compared[test.right] = place
        self._opposites = Counter(side for left, _, right in self._last_asked for side in (left, right))
        self._ways: list[list[tuple[_Facts, int]]] = [[] for _ in tests]
        self._nodes = self._answers = 0

    def followed(self) -> tuple[int, list[Comparison]]:
        """Where to start, and what remains to be compared, in order."""
        start = self._arrive(0 if self._tests else ACCEPT, _NOTHING)
        numbers = {ACCEPT: ACCEPT, REJECT: REJECT}
        remaining: list[Comparison] = []
        for place, (test, ways) in enumerate(zip(self._tests, self._ways, strict=True)):
            for facts, node in ways:
                numbers[node] = len(remaining)
                if_true = self._arrive(test.if_true, self._learned(facts, place, True))
                if_false = self._arrive(test.if_false, self._learned(facts, place, False))
                remaining.append(Comparison(test.left, test.operator, test.right, if_true, if_false))
        return numbers[start], [_led(comparison, numbers) for comparison in remaining]

    def _arrive(self, place: int, facts: _Facts) -> int:
        """The node where a way goes on that comes to a test: perhaps of a later one, or ACCEPT or REJECT."""
        while place >= 0 and self._answers < _ANSWERS_PER_TEST * len(self._tests):
            answer = self._answer(self._tests[place], facts)
            if answer is None:
                break
            place = self._tests[place].if_true if answer else self._tests[place].if_false
            self._answers += 1
        return place if place < 0 else self._node(place, self._useful(facts, place))

    def _node(self, place: int, facts: _Facts) -> int:
        """The node of all ways that come to a test with these facts, or with some of them where nodes are many."""
        ways = self._ways[place]
        for known, node in ways:
            if known == facts:
                return node
        many = self._nodes > _NODES_PER_TEST * len(self._tests)
        if len(ways) >= (_FEW_WAYS if many else _MOST_WAYS):
            alike = [(len(known), node) for known, node in ways if facts.includes(known)]
            if alike:
                return max(alike)[1]
            facts = _NOTHING
        ways.append((facts, self._nodes))
        self._nodes += 1
        return self._nodes - 1

    def _value(self, operand: int, facts: _Facts) -> int | None:
        constant = self._constants.get(operand)
        return facts.values.get(operand) if constant is None else constant

    def _answer(self, test: Comparison, facts: _Facts) -> bool | None:
        left, right = self._value(test.left, facts), self._value(test.right, facts)
        if left is not None and right is not None:
            return bool(COMPARE[test.operator](left, right))
        return facts.answers.get(_question(test))

    def _learned(self, facts: _Facts, place: int, answer: bool) -> _Facts:
        """The facts after a test, which may say something about later ones."""
        test = self._tests[place]
        if test.operator == "=" and answer:
            for constant, other in ((test.left, test.right), (test.right, test.left)):
                if constant in self._constants and self._opposites[other] <= _MOST_CONSTANTS:
                    return _Facts({**facts.values, other: self._constants[constant]}, facts.answers)
        question = _question(test)
        if self._last_asked[question] == place:
            return facts
        return _Facts(facts.values, {**facts.answers, question: answer})

    def _useful(self, facts: _Facts, place: int) -> _Facts:
        """The facts that a test from ``place`` on may ask for, the newest of them."""
        if not facts:
            return facts
        values = {n: value for n, value in facts.values.items() if self._last_compared[n] >= place}
        answers = {
            question: answer
            for question, answer in facts.answers.items()
            if self._last_asked[question] >= place and not (question[0] in values or question[2] in values)
        }
        return _Facts(_newest(values), _newest(answers))


def _newest(facts: dict[Any, Any]) -> dict[Any, Any]:
    return facts if len(facts) <= _MOST_FACTS else dict(list(facts.items())[-_MOST_FACTS:])
