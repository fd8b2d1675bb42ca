"""Switches: comparisons of operands with constants that one look-up of each operand's value answers.

Lists of hosts or ports are long chains of such comparisons, ranges are pairs of them.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from queries.filters.machine.ways import Comparison
from queries.filters.program import ACCEPT, REJECT

REJECTED = 0
"""The exit of rows in which an operand rejects."""

_VALUES = 1 << 32
_MOST_MEMBERS = 4096  # comparisons of one operand in a row
_MOST_DIFFERENT = 16  # operands in a row, none of them for the second time


@dataclass(frozen=True, slots=True)
class Lookup:
    """What the values of one operand decide: ``exits[k]`` for those from ``bounds[k - 1]`` to below ``bounds[k]``."""

    operand: int
    first: int
    bounds: NDArray[np.uint32]
    exits: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Switch:
    """Exits from a chain of comparisons, numbered from 1 in the order in which the program comes to them.

    A row takes the lowest exit that its values say, or REJECTED; ``goals[goal_of[exit]]`` is where that leads.  The
    last exit is the end of the chain.  An operand is only evaluated (and may only
    reject) on rows that take no exit below the ``first`` one of its lookup; lookups are in the order of these.
    """

    lookups: tuple[Lookup, ...]
    goals: tuple[int, ...]
    goal_of: NDArray[np.int32]


Stage = Comparison | Switch


def join(
    start: int, comparisons: Sequence[Comparison], constants: Mapping[int, int]
) -> tuple[int, list[Stage]]:
    """Where to start, and the same with switches in place of the comparisons that make them."""
    chains = _Chains(start, comparisons, constants)
    stages: dict[int, Stage] = {}
    joined: set[int] = set()
    for head, comparison in enumerate(comparisons):
        if head not in joined:
            decisions = chains.chain(head) if chains.decides(head) else []
            members = {member for decision in decisions for member in decision.members}
            stages[head] = _switch(decisions) if len(members) > 1 else comparison
            joined |= members
    numbers = {head: number for number, head in enumerate(stages)} | {ACCEPT: ACCEPT, REJECT: REJECT}
    return numbers[start], [_led(stage, numbers) for stage in stages.values()]


def _led(stage: Stage, numbers: Mapping[int, int]) -> Stage:
    """The stage, with its targets numbered otherwise."""
    if isinstance(stage, Switch):
        return replace(stage, goals=tuple(numbers[goal] for goal in stage.goals))
    return replace(stage, if_true=numbers[stage.if_true], if_false=numbers[stage.if_false])


@dataclass(frozen=True, slots=True)
class _Range:
    """Values of an operand, from ``least`` to ``greatest``, and where they lead."""

    least: int
    greatest: int
    target: int


@dataclass(frozen=True, slots=True)
class _Decision:
    """Comparisons of one operand, in a row: the ranges of values that leave it, and where all other values lead.

    ``only_way`` tells that nothing else leads there.
    """

    operand: int
    members: tuple[int, ...]
    ranges: tuple[_Range, ...]
    otherwise: int
    only_way: bool


class _Chains:
    """Comparisons with constants that follow each other."""

    def __init__(self, start: int, comparisons: Sequence[Comparison], constants: Mapping[int, int]) -> None:
        self._comparisons = comparisons
        self._arrivals = Counter([start])
        self._arrivals.update(each.if_true for each in comparisons)
        self._arrivals.update(each.if_false for each in comparisons)
        self._true = {k: true for k, each in enumerate(comparisons) if (true := _true(each, constants))}

    def decides(self, number: int) -> bool:
        """Whether a comparison is one with a constant."""
        return number in self._true

    def chain(self, head: int) -> list[_Decision]:
        """Decisions from a comparison on that only follow each other, up to the last operand that comes again."""
        decisions = [self._decision(head)]
        operands = {decisions[0].operand}
        useful = 1
        while (last := decisions[-1]).only_way and self.decides(last.otherwise):
            decisions.append(self._decision(last.otherwise))
            if decisions[-1].operand in operands:
                useful = len(decisions)
            elif len(decisions) - useful > _MOST_DIFFERENT:
                break
            operands.add(decisions[-1].operand)
        return decisions[:useful]

    def _decision(self, head: int) -> _Decision:
        members, edges = self._members(head)
        pieces = self._pieces(members) if len(members) > 1 else self._alone(head)
        widths: dict[int, int] = {}
        for piece in pieces:
            widths[piece.target] = widths.get(piece.target, 0) + piece.greatest - piece.least
        otherwise = max(widths, key=widths.__getitem__)
        ranges = tuple(piece for piece in pieces if piece.target != otherwise)
        only_way = edges[otherwise] == self._arrivals[otherwise]
        return _Decision(self._true[head][0], tuple(members), ranges, otherwise, only_way)

    def _members(self, head: int) -> tuple[list[int], dict[int, int]]:
        """All comparisons of the same operand to which only others of them lead, and how often they lead where."""
        operand = self._true[head][0]
        members: list[int] = []
        edges = {head: self._arrivals[head]}
        pending = [head]
        while pending and len(members) < _MOST_MEMBERS:
            number = heapq.heappop(pending)
            if edges[number] < self._arrivals[number]:
                continue
            members.append(number)
            comparison = self._comparisons[number]
            for target in (comparison.if_true, comparison.if_false):
                edges[target] = edges.get(target, 0) + 1
                if edges[target] == 1 and target in self._true and self._true[target][0] == operand:
                    heapq.heappush(pending, target)
        return members, edges

    def _alone(self, number: int) -> list[_Range]:
        """What the values of one comparison's operand decide."""
        _, least, greatest = self._true[number]
        comparison = self._comparisons[number]
        pieces = (
            _Range(0, least - 1, comparison.if_false),
            _Range(least, greatest, comparison.if_true),
            _Range(greatest + 1, _VALUES - 1, comparison.if_false),
        )
        return [piece for piece in pieces if piece.least <= piece.greatest]

    def _pieces(self, members: Sequence[int]) -> list[_Range]:
        """The same of several, each followed with the least values of all ranges that differ."""
        edges = {edge for member in members for edge in (self._true[member][1], self._true[member][2] + 1)}
        leasts = np.array(sorted(edges - {_VALUES} | {0}), np.int64)
        arrived: dict[int, list[NDArray[np.int64]]] = {members[0]: [np.arange(len(leasts))]}
        for member in members:
            _, least, greatest = self._true[member]
            here = np.concatenate(arrived.pop(member))
            true = (leasts[here] >= least) & (leasts[here] <= greatest)
            comparison = self._comparisons[member]
            arrived.setdefault(comparison.if_true, []).append(here[true])
            arrived.setdefault(comparison.if_false, []).append(here[~true])
        targets = np.zeros(len(leasts), np.int64)
        for target, places in arrived.items():
            targets[np.concatenate(places)] = target
        greatests = np.append(leasts[1:], _VALUES) - 1
        return [
            _Range(*each) for each in zip(leasts.tolist(), greatests.tolist(), targets.tolist(), strict=True)
        ]


def _true(comparison: Comparison, constants: Mapping[int, int]) -> tuple[int, int, int] | None:
    """The operand that is compared with a constant, and the least and greatest value for which that is true."""
    if comparison.right in constants:
        constant = constants[comparison.right]
        least = constant + 1 if comparison.operator == ">" else constant
        return comparison.left, least, constant if comparison.operator == "=" else _VALUES - 1
    if comparison.left in constants:
        constant = constants[comparison.left]
        greatest = constant - 1 if comparison.operator == ">" else constant
        return comparison.right, constant if comparison.operator == "=" else 0, greatest
    return None


def _switch(decisions: Sequence[_Decision]) -> Switch:
    exits = [REJECT]
    firsts: dict[int, int] = {}
    ranges: dict[int, list[tuple[_Range, int]]] = {}
    for decision in decisions:
        firsts.setdefault(decision.operand, len(exits))
        number = {
            target: len(exits) + k for k, target in enumerate({each.target: None for each in decision.ranges})
        }
        exits.extend(number)
        numbered = ranges.setdefault(decision.operand, [])
        numbered.extend((each, number[each.target]) for each in decision.ranges)
    lookups = tuple(_lookup(operand, firsts[operand], ranges[operand], len(exits)) for operand in firsts)
    exits.append(decisions[-1].otherwise)
    goals = {target: number for number, target in enumerate(dict.fromkeys(exits))}
    return Switch(lookups, tuple(goals), np.array([goals[target] for target in exits], np.int32))


def _lookup(operand: int, first: int, ranges: Iterable[tuple[_Range, int]], end: int) -> Lookup:
    numbered = list(ranges)
    edges = {edge for each, _ in numbered for edge in (each.least, each.greatest + 1)}
    bounds = sorted(edges - {0, _VALUES})
    place = {bound: k for k, bound in enumerate([0, *bounds, _VALUES])}
    exits = np.full(len(bounds) + 1, end, np.int32)
    for each, number in reversed(numbered):  # so that the first exit is what remains
        exits[place[each.least] : place[each.greatest + 1]] = number
    return Lookup(operand, first, np.array(bounds, np.uint32), exits)
