"""From terms to a list of comparisons: where each goes on when it is true, and where when it is not.

Nothing here calls itself: expressions may be nested some thousand deep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from queries.filters.generate.code import Check, Code, Every, Inverse, Some
from queries.filters.language.terms import And, Identifier, Not, Or, Primitive, Protocol, Relation, Term
from queries.filters.program import ACCEPT, REJECT

Leaf = Protocol | Identifier | Primitive | Relation


Linked = tuple[Check, int, int]
"""A comparison, and where to go on if it is true and if not: the number of a later one, or ACCEPT or REJECT."""


def leaves(term: Term) -> Iterator[Leaf]:
    """The terms of a term that hold no others, in textual order."""
    pending = [term]
    while pending:
        match pending.pop():
            case And(terms) | Or(terms):
                pending.extend(reversed(terms))
            case Not(negated):
                pending.append(negated)
            case leaf:
                yield leaf


def coded(term: Term, code_of: Callable[[Leaf], Code]) -> Code:
    """The code of a term; ``code_of`` is asked for that of its leaves, in textual order."""
    codes: list[Code] = []
    pending: list[tuple[Term, bool]] = [(term, False)]
    while pending:
        term, has_parts = pending.pop()
        match term:
            case And(terms) | Or(terms):
                if has_parts:
                    parts = tuple(codes[-len(terms) :])
                    codes[-len(terms) :] = [Every(parts) if isinstance(term, And) else Some(parts)]
                else:
                    pending.append((term, True))
                    pending.extend((part, False) for part in reversed(terms))
            case Not(negated):
                if has_parts:
                    codes.append(Inverse(codes.pop()))
                else:
                    pending.extend(((term, True), (negated, False)))
            case _:
                codes.append(code_of(term))
    return codes[0]


_FOLLOWING = -3


def linked(code: Code) -> list[Linked]:
    """The comparisons of a code in textual order, which accept what the whole of it says.

    They are found from the last to the first, so that those to go on to have been found before.
    """
    found: list[Linked] = []
    pending = [(code, ACCEPT, REJECT)]
    while pending:
        node, if_true, if_false = pending.pop()
        if_true = len(found) - 1 if if_true == _FOLLOWING else if_true
        if_false = len(found) - 1 if if_false == _FOLLOWING else if_false
        match node:
            case Check():
                found.append((node, if_true, if_false))
            case Inverse(part):
                pending.append((part, if_false, if_true))
            case Every(parts):
                pending.extend((part, _FOLLOWING, if_false) for part in parts[:-1])
                pending.append((parts[-1], if_true, if_false))
            case Some(parts):
                pending.extend((part, if_true, _FOLLOWING) for part in parts[:-1])
                pending.append((parts[-1], if_true, if_false))
    last = len(found) - 1
    return [
        (check, one if one < 0 else last - one, other if other < 0 else last - other)
        for check, one, other in reversed(found)
    ]
