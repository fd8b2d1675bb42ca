"""Arithmetic of pcap-filter(7): tokens to values, by precedence of operators, without recursion."""

from __future__ import annotations

from dataclasses import dataclass

from queries.filters.language.stream import MAX_DEPTH, TokenStream
from queries.filters.language.terms import Accessor, Length, Negative, Number, Operation, Value
from queries.filters.language.words import OPERATORS

_PRECEDENCE = {
    "|": 1,
    "&": 2,
    **dict.fromkeys(("<<", ">>"), 3),
    **dict.fromkeys(("+", "-"), 4),
    **dict.fromkeys(("*", "/"), 5),
    "negative": 6,
}
"""How tightly operators bind.  libpcap's grammar gives ``%`` and ``^`` no precedence, so whatever follows them belongs
to their right side, and they belong to the right side of whatever precedes them."""


@dataclass(frozen=True, slots=True)
class _Open:
    """What waits for a value on its right: a binary ``operator``, ``negative``, ``(``, or ``[`` of a protocol."""

    operator: str
    start: int
    left: Value | None = None
    protocol: str = ""

    def waits_for(self, operator: str) -> bool:
        """Whether it leaves its right side to an operator that follows."""
        if self.operator in ("(", "["):
            return True
        if self.operator not in _PRECEDENCE or operator not in _PRECEDENCE:
            return True
        return _PRECEDENCE[self.operator] < _PRECEDENCE[operator]

    def applied(self, value: Value, end: int) -> Value:
        """The operation, with that value on its right."""
        span = self.start, end
        if self.left is None:
            return Negative(value, span)
        return Operation(self.operator, self.left, value, span)


def read_value(stream: TokenStream) -> Value:
    """Take the longest value from a stream; raises :class:`FilterError` where there is none.

    A number in parentheses is a number.
    """
    opened: list[_Open] = []
    while True:
        start, value = _operand(stream, opened)
        start, value = _closed(stream, opened, start, value)
        operator = stream.accept(*OPERATORS)
        if operator is None:
            return value
        opened.append(_Open(operator.kind, start, left=value))


def _operand(stream: TokenStream, opened: list[_Open]) -> tuple[int, Value]:
    """Open whatever stands before the next operand, and take that: where it starts, and the operand."""
    while True:
        token = stream.current
        start = token.span[0]
        if len(opened) >= MAX_DEPTH:
            raise stream.too_deep()
        if stream.accept("number"):
            return start, Number(token.number, token.span)
        if stream.accept("length"):
            return start, Length(token.span)
        if stream.accept("-"):
            opened.append(_Open("negative", start))
        elif stream.accept("("):
            opened.append(_Open("(", start))
        else:
            protocol = stream.take("protocol").word
            stream.take("[")
            opened.append(_Open("[", start, protocol=protocol))


def _closed(stream: TokenStream, opened: list[_Open], start: int, value: Value) -> tuple[int, Value]:
    """Close whatever the next token leaves nothing to: where the value so far starts, and the value."""
    while opened and not (stream.current.kind in OPERATORS and opened[-1].waits_for(stream.current.kind)):
        last = opened.pop()
        start = last.start
        if last.operator == "(":
            stream.take(")")
        elif last.operator == "[":
            size = stream.take("number").number if stream.accept(":") else 1
            stream.take("]")
            value = Accessor(last.protocol, value, size, (start, stream.end))
        else:
            value = last.applied(value, stream.end)
    return start, value
