"""Runs a filter's program on many frames at once: every test on all the frames that come to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from queries.filters.machine.frames import Frames, Rows, Slices
from queries.filters.machine.loads import Flags, Numbers, Octets, Part, Selection, Window, all_of
from queries.filters.machine.plan import Plan, plan
from queries.filters.machine.protochain import chain_end
from queries.filters.machine.switches import REJECTED, Lookup, Switch
from queries.filters.machine.ways import COMPARE, Comparison
from queries.filters.program import ACCEPT, REJECT, Arithmetic, ChainEnd, Constant, Load, Program, WireLength

_WINDOW = 1 << 16  # frames at a time: their octets and values stay in the processor's cache
_FEW = 16  # numbers that are compared one by one faster than searched


def run(program: Program | Plan, frames: Frames, rows: Rows | None = None) -> Flags:
    """Which of the frames the program accepts; of ``rows`` alone, in their order, where they are given.

    A program that runs on many sets of frames is better planned once (:func:`queries.filters.machine.plan.plan`).
    Verdicts are those of ``tcpdump -O`` on every frame.
    """
    planned = program if isinstance(program, Plan) else plan(program)
    chosen = frames if rows is None else frames.take(rows)
    if not callable(chosen.rest):
        return _run(planned, chosen, chosen.rest)[0]
    accepted, undecided = _run(planned, chosen, None)
    again = np.flatnonzero(undecided)
    if len(again):
        rest = chosen.rest(again)
        accepted[again] = _run(planned, chosen.take(again), rest)[0]
    return accepted


def _run(planned: Plan, frames: Frames, rest: Slices | None) -> tuple[Flags, Flags]:
    """Which frames are accepted, and which are undecided as the octets after their header are not there."""
    accepted, undecided = np.zeros(len(frames), np.bool_), np.zeros(len(frames), np.bool_)
    octets = Octets(frames.header.data)
    rest_octets = Octets(rest.data) if rest is not None else None
    for start in range(0, len(frames), _WINDOW):
        rows = slice(start, start + _WINDOW)
        window = Window(
            Part.of(octets, frames.header, rows),
            Part.of(rest_octets, rest, rows) if rest is not None and rest_octets is not None else None,
            frames.limit[rows],
            frames.wire_length[rows],
            pending=frames.rest is not None,
        )
        accepted[rows] = _Machine(planned, window).accepted()
        undecided[rows] = window.undecided
    return accepted, undecided


class _Machine:
    """The state of a program that runs on one window: which rows wait where, and values worth keeping."""

    def __init__(self, planned: Plan, window: Window) -> None:
        self._plan = planned
        self._window = window
        self._accepted = np.zeros(len(window), np.bool_)
        self._arrivals: list[list[Selection]] = [[] for _ in planned.stages]
        self._kept: dict[int, tuple[Numbers, Flags]] = {}

    def accepted(self) -> Flags:
        """Run to the end: which rows come to ACCEPT."""
        rows: Selection = slice(None)
        for number in self._plan.before:
            _, made = self._value(number, rows)
            rows = rows if made is None else _select(rows, made)
        self._send(self._plan.start, rows)
        for stage, arrivals in zip(self._plan.stages, self._arrivals, strict=True):
            if arrivals:
                rows = self._together(arrivals)
                if isinstance(stage, Switch):
                    self._switch(stage, rows)
                else:
                    self._compare(stage, rows)
        return self._accepted

    # Stages

    def _together(self, arrivals: list[Selection]) -> Selection:
        if len(arrivals) == 1:
            return arrivals.pop()
        return np.concatenate([self._numbers(rows) for rows in arrivals])

    def _send(self, target: int, rows: Selection) -> None:
        if target == ACCEPT:
            self._accepted[rows] = True
        elif target != REJECT and self._count(rows):
            self._arrivals[target].append(rows)

    def _compare(self, stage: Comparison, rows: Selection) -> None:
        left, left_made = self._value(stage.left, rows)
        right, right_made = self._value(stage.right, rows)
        made = all_of(left_made, right_made)
        outcome = np.broadcast_to(COMPARE[stage.operator](left, right), self._count(rows))
        if stage.if_true != REJECT:
            self._send(stage.if_true, _select(rows, outcome if made is None else outcome & made))
        if stage.if_false != REJECT:
            self._send(stage.if_false, _select(rows, ~outcome if made is None else ~outcome & made))

    def _switch(self, stage: Switch, rows: Selection) -> None:
        exits = self._exits(stage.lookups[0], rows)
        for lookup in stage.lookups[1:]:
            asking = np.flatnonzero(exits >= lookup.first)
            exits[asking] = np.minimum(exits[asking], self._exits(lookup, self._numbers(rows)[asking]))
        goals = stage.goal_of[exits]
        for number in np.flatnonzero(np.bincount(goals)):
            if stage.goals[number] != REJECT:
                self._send(stage.goals[number], _select(rows, goals == number))

    def _exits(self, lookup: Lookup, rows: Selection) -> NDArray[np.int32]:
        values, made = self._value(lookup.operand, rows)
        exits = np.empty(self._count(rows), np.int32)
        exits[:] = lookup.exits[_ranges(lookup.bounds, values)]
        if made is not None:
            exits[~np.broadcast_to(made, exits.shape)] = REJECTED
        return exits

    def _count(self, rows: Selection) -> int:
        return len(self._window) if isinstance(rows, slice) else len(rows)

    def _numbers(self, rows: Selection) -> Rows:
        return np.arange(len(self._window)) if isinstance(rows, slice) else rows

    # Values of operands, one for each row or a single one, and of which rows they mean anything (None: all)

    def _value(self, number: int, rows: Selection) -> tuple[Numbers, Flags | None]:
        if number not in self._plan.shared:
            return self._evaluate(number, rows)
        count = len(self._window)
        values, known = self._kept.setdefault(number, (np.zeros(count, np.uint32), np.zeros(count, np.bool_)))
        missing = _select(rows, ~known[rows])
        if self._count(missing):
            values[missing], made = self._evaluate(number, missing)
            known[missing] = True if made is None else made
        made = known[rows]
        return values[rows], None if made.all() else made

    def _evaluate(self, number: int, rows: Selection) -> tuple[Numbers, Flags | None]:
        stack: list[Numbers] = []
        made: Flags | None = None
        for step in self._plan.code[number]:
            if step != number and step in self._plan.shared:
                values, also_made = self._value(step, rows)
            else:
                values, also_made = self._stepped(step, stack, rows)
            stack.append(values)
            made = all_of(made, also_made)
        return stack.pop(), made

    def _stepped(self, step: int, stack: list[Numbers], rows: Selection) -> tuple[Numbers, Flags | None]:
        match self._plan.steps[step].operand:
            case Constant(value):
                return np.array([value], np.uint32), None
            case WireLength():
                return self._window.wire_lengths[rows], None
            case Load(offset, size, index):
                return self._window.load(rows, offset, size, None if index is None else stack.pop())
            case ChainEnd(version, _, protocol):
                return chain_end(self._window, self._numbers(rows), version, stack.pop(), protocol)
            case Arithmetic(word, _, _):
                right, left = stack.pop(), stack.pop()
                return _arithmetic(word, left, right)
        raise AssertionError(step)


_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.floor_divide,
    "%": np.remainder,
    "&": np.bitwise_and,
    "|": np.bitwise_or,
    "^": np.bitwise_xor,
    "<<": np.left_shift,
    ">>": np.right_shift,
}
"""Of arrays of uint32: they wrap modulo 2³², and shifts by more bits than there are give 0."""


def _arithmetic(word: str, left: Numbers, right: Numbers) -> tuple[Numbers, Flags | None]:
    made = None
    if word in "/%" and not right.all():
        made = right != 0
        right = np.where(made, right, np.uint32(1))
    return _ARITHMETIC[word](left, right), made


def _select(rows: Selection, flags: Flags) -> Selection:
    """The rows with a flag."""
    if flags.all():
        return rows
    chosen = np.flatnonzero(flags)
    return chosen if isinstance(rows, slice) else rows[chosen]


def _ranges(bounds: NDArray[np.uint32], values: Numbers) -> NDArray[np.integer[Any]]:
    """How many of the bounds, which ascend, are no greater than each value."""
    if len(bounds) > _FEW:
        return np.searchsorted(bounds, values, side="right")
    below = np.zeros(values.shape, np.uint8)
    for bound in bounds:
        below += values >= bound
    return below
