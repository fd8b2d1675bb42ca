"""libpcap's code run on symbols, so that it can be compared with a program jump by jump, without any frames.

Not for code with ``geneve``, ``protochain`` and ``byte 0 & 1``: that has jumps of another kind, or depends on more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from queries.filters.generate import prefixes
from queries.filters.generate.link_types import LinkType
from queries.filters.program import ACCEPT, REJECT, Arithmetic, Constant, Load, Operand, Program, WireLength

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, and k."""

_SIZES = {0x00: 4, 0x08: 2, 0x10: 1}
_ARITHMETIC = {
    **{0x00: "+", 0x10: "-", 0x20: "*", 0x30: "/", 0x40: "|", 0x50: "&"},
    **{0x60: "<<", 0x70: ">>", 0x90: "%", 0xA0: "^"},
}
_COMPARISONS = {0x10: "=", 0x20: ">", 0x30: ">=", 0x40: "&"}
_NOTHING = Constant(0)


@dataclass(frozen=True, slots=True)
class _Machine:
    """The machine's state: the next instruction, both registers, and memory."""

    place: int
    a: Operand = _NOTHING
    x: Operand = _NOTHING
    memory: dict[int, Operand] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Jump:
    """A comparison, and the machine where it is true and where it is not."""

    left: Operand
    operator: str
    right: Operand
    if_true: _Machine
    if_false: _Machine


def difference(instructions: Sequence[Instruction], program: Program, link: LinkType) -> str | None:
    """Where code and program do not say the same, None where they do."""
    start, first = _after_prologue(instructions, program, link)
    pending = [(start, first)]
    seen = set()
    while pending:
        machine, number = pending.pop()
        if (machine.place, number) in seen:
            continue
        seen.add((machine.place, number))
        found = _next_jump(instructions, machine)
        if isinstance(found, bool):
            if number != (ACCEPT if found else REJECT):
                return f"libpcap ends at {machine.place} ({found}), the program goes on at {number}"
            continue
        if number < 0:
            return f"the program ends ({number}), libpcap goes on at {machine.place}"
        test = program.tests[number]
        own, theirs = (test.left, test.operator, test.right), _as_test(found)
        if own != theirs:
            return f"at {machine.place}: libpcap compares {theirs}, test {number} compares {own}"
        pending += [(found.if_true, test.if_true), (found.if_false, test.if_false)]
    return None


def _as_test(jump: _Jump) -> tuple[Operand, str, Operand]:
    """What a program compares: both sides of a difference that libpcap compares with 0, and bits with 0."""
    match jump:
        case _Jump(Arithmetic("-", left, right), "=", Constant(0)):
            return left, "=", right
        case _Jump(left, "&", right):
            return Arithmetic("&", left, right), ">", _NOTHING
    return jump.left, jump.operator, jump.right


def _next_jump(instructions: Sequence[Instruction], machine: _Machine) -> _Jump | bool:
    """The next comparison, or what the code returns."""
    while True:
        code, if_true, if_false, k = instructions[machine.place]
        following = machine.place + 1
        if code == 0x06:
            return k != 0
        if code == 0x05:
            machine = replace(machine, place=following + k)
        elif code & 0x07 == 0x05:
            right = machine.x if code & 0x08 else Constant(k)
            places = (replace(machine, place=following + jump) for jump in (if_true, if_false))
            return _Jump(machine.a, _COMPARISONS[code & 0xF0], right, *places)
        else:
            machine = replace(_executed(machine, code, k), place=following)


def _executed(machine: _Machine, code: int, k: int) -> _Machine:
    match code & 0x07:
        case 0x00:
            return replace(machine, a=_loaded(machine, code, k))
        case 0x01:
            header = Arithmetic("<<", Arithmetic("&", Load(k, 1), Constant(15)), Constant(2))
            return replace(machine, x=header if code == 0xB1 else _loaded(machine, code, k))
        case 0x02 | 0x03 as kind:
            return replace(machine, memory={**machine.memory, k: machine.a if kind == 0x02 else machine.x})
        case 0x04:
            right = machine.x if code & 0x08 else Constant(k)
            if code == 0x84:
                return replace(machine, a=Arithmetic("-", _NOTHING, machine.a))
            return replace(machine, a=Arithmetic(_ARITHMETIC[code & 0xF0], machine.a, right))
    assert code in (0x07, 0x87)
    return replace(machine, x=machine.a) if code == 0x07 else replace(machine, a=machine.x)


def _loaded(machine: _Machine, code: int, k: int) -> Operand:
    match code & 0xE0:
        case 0x00:
            return Constant(k)
        case 0x60:
            return machine.memory.get(k, _NOTHING)
        case 0x80:
            return WireLength()
        case 0x20:
            return Load(k, _SIZES[code & 0x18])
    return _indexed(k, _SIZES[code & 0x18], machine.x)


def _indexed(offset: int, size: int, index: Operand) -> Load:
    """As programs have it: a constant index is part of the offset, if the sum of both can't wrap."""
    match index:
        case Constant(value) if offset + value < 1 << 32:
            return Load(offset + value, size)
        case Arithmetic("+", Constant(value), Arithmetic("<<", _, Constant(2)) as header) if (
            value < 1 << 31 and offset + value < 1 << 32
        ):
            return Load(offset + value, size, header)
    return Load(offset, size, index)


def _after_prologue(
    instructions: Sequence[Instruction], program: Program, link: LinkType
) -> tuple[_Machine, int]:
    """The machine where all lengths of link headers are in memory, and the number of the program's test there.

    What lengths of 802.11 headers are is taken from the program: libpcap's code for them has jumps.
    """
    place = number = 0
    memory: dict[int, Operand] = {}
    if instructions[0] == (0x20, 0, 0, 4) and link.number == 192:
        place, number = 2, 1
    lengths = (
        prefixes.before_header(link),
        *(prefixes.before_payload(link, padded=p) for p in (True, False)),
    )
    header, *payloads = (length if length in program.before else None for length in lengths)
    if header is not None:
        while instructions[place][0] != 0x02:
            place += 1
        memory[instructions[place][3]] = header
        place += 1
    payload = payloads[0] or payloads[1]
    if payload is not None and link.is_wlan:
        while instructions[place] != (0x04, 0, 0, 24):
            place += 1
        memory[instructions[place + 1][3]] = payload
        is_data = place + 3
        assert instructions[is_data][0] == 0x45
        place = is_data + 1 + instructions[is_data][2]
    return _Machine(place, memory=memory), number
