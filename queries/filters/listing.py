"""Programs as text: one line per test, with what it compares and where it leads."""

from __future__ import annotations

from queries.filters.program import (
    ACCEPT,
    REJECT,
    Arithmetic,
    ChainEnd,
    Constant,
    Load,
    Operand,
    Program,
    WireLength,
)

_BITS = {1: 8, 2: 16, 4: 32}
_PRECEDENCE = {"|": 0, "^": 1, "&": 2, "<<": 3, ">>": 3, "+": 4, "-": 4, "*": 5, "/": 5, "%": 5}


def listing(program: Program) -> list[str]:
    """A line for each test: its number, the comparison, and the number of the next if it holds, and if not.

    A load is ``u16[12]``: that many bits at that octet of the frame.  What is loaded on every frame stands first.
    Without tests there is one line.

    >>> from queries.filters.compiled import compile_filter
    >>> print(*listing(compile_filter("ip").for_link_type(1).program), sep="\\\\n")
    (000) u16[12] = 0x800  ? accept : reject
    """
    lines = [f"first {operand_text(each)}" for each in program.before]
    for number, test in enumerate(program.tests):
        compared = f"{operand_text(test.left)} {test.operator} {operand_text(test.right)}"
        lines.append(f"({number:03}) {compared:<24} ? {_target(test.if_true)} : {_target(test.if_false)}")
    return lines if program.tests else [*lines, "(000) accept"]


def _target(number: int) -> str:
    return {ACCEPT: "accept", REJECT: "reject"}.get(number, f"{number:03}")


def operand_text(operand: Operand) -> str:
    """An operand as an expression, with as many parentheses as it needs."""
    pieces: list[str] = []
    waiting: list[tuple[Operand, int] | str] = [(operand, 0)]
    while waiting:  # sums may be as deep as texts are long
        item = waiting.pop()
        if isinstance(item, str):
            pieces.append(item)
        else:
            waiting.extend(reversed(_parts(*item)))
    return "".join(pieces)


def _parts(operand: Operand, least: int) -> list[tuple[Operand, int] | str]:
    """Text, and operands with the least precedence that needs no parentheses there."""
    match operand:
        case Constant(value):
            return [str(value) if value < 10 else f"{value:#x}"]
        case WireLength():
            return ["len"]
        case Load(offset, size, None):
            return [f"u{_BITS[size]}[{offset}]"]
        case Load(offset, size, index) if index is not None:
            before = f"{offset} + " if offset else ""
            return [f"u{_BITS[size]}[{before}", (index, _PRECEDENCE["+"] + 1 if offset else 0), "]"]
        case ChainEnd(version, start, number):
            return [f"protochain{version}[", (start, 0), f"]({number})"]
        case Arithmetic(operator, left, right):
            precedence = _PRECEDENCE[operator]
            inner: list[tuple[Operand, int] | str] = [
                (left, precedence),
                f" {operator} ",
                (right, precedence + 1),
            ]
            return inner if precedence >= least else ["(", *inner, ")"]
    raise AssertionError(operand)
