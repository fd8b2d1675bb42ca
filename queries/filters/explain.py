"""What a filter expression means for a link type: its terms, its tests, what they read, and what may surprise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pcap2arrow.errors import FilterError
from queries.filters.compiled import Filter, LinkFilter
from queries.filters.language.terms import (
    Accessor,
    And,
    Identifier,
    Length,
    Negative,
    Not,
    Number,
    Operation,
    Or,
    Relation,
    Span,
    Term,
    Value,
    post_order,
)
from queries.filters.language.words import KEYWORDS
from queries.filters.listing import listing
from queries.filters.traps import Trap, traps

Octets = Literal["none", "irregular", "unknown", "all"]

_RANGED = ("network_type", "l4_proto")
_IN_NO_FRAME = (1 << 40, 1 << 40)
_LONGEST_VALUE = 400


@dataclass(frozen=True, slots=True)
class TermLine:
    """A term: ``depth`` is how many terms it is in, ``text`` what it says with all its qualifiers."""

    depth: int
    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Explanation:
    """An expression, explained for frames of one link type.

    ``terms`` are its tree, each before those in it; ``tests`` the program (:func:`listing`); ``accepts`` says whether
    it accepts ``all`` packets, ``none`` or ``some``.  ``columns`` of the packet table are read, and of some packets
    octets: of ``none``, of ``irregular`` ones, also of those that columns leave ``unknown``, or of ``all``.
    ``pruned_by`` are columns by whose ranges files are left out.  Of an expression that is wrong for the link type,
    ``error`` says why, and only the terms are there.
    """

    text: str
    link_type: int
    terms: tuple[TermLine, ...]
    error: FilterError | None = None
    accepts: Literal["all", "none", "some"] = "some"
    tests: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    octets: Octets = "none"
    pruned_by: tuple[str, ...] = ()
    traps: tuple[Trap, ...] = ()


def explain(chosen: Filter, link_type: int) -> Explanation:
    """Explain a filter for a link type.

    >>> explain(compile_filter("tcp port 80"), 1).octets
    'irregular'
    """
    terms = () if chosen.term is None else tuple(_lines(chosen.text, chosen.term))
    try:
        compiled = chosen.for_link_type(link_type)
    except FilterError as error:
        return Explanation(chosen.text, link_type, terms, error)
    plan = compiled.columns
    return Explanation(
        chosen.text,
        link_type,
        terms,
        accepts="all" if compiled.accepts_everything else "none" if compiled.accepts_nothing else "some",
        tests=tuple(listing(compiled.program)),
        columns=() if plan is None or _is_constant(compiled) else tuple(sorted(plan.columns)),
        octets=_octets(compiled),
        pruned_by=_pruned_by(compiled),
        traps=() if chosen.term is None else tuple(traps(chosen.text, chosen.term)),
    )


def _is_constant(compiled: LinkFilter) -> bool:
    return compiled.accepts_everything or compiled.accepts_nothing


def _octets(compiled: LinkFilter) -> Octets:
    if _is_constant(compiled):
        return "none"
    if compiled.columns is None:
        return "all"
    return "irregular" if compiled.columns.complete else "unknown"


def _pruned_by(compiled: LinkFilter) -> tuple[str, ...]:
    """Columns of which a range can tell that nothing but irregular frames is selected."""
    if _is_constant(compiled):
        return ()
    return tuple(name for name in _RANGED if compiled.within({name: _IN_NO_FRAME}) is not compiled)


def _lines(text: str, root: Term) -> list[TermLine]:
    lines: list[TermLine] = []
    waiting: list[tuple[Term, int]] = [(root, 0)]
    while waiting:
        term, depth = waiting.pop()
        inner: tuple[Term, ...] = ()
        match term:
            case And(terms) | Or(terms):
                inner, label = terms, "and" if isinstance(term, And) else "or"
            case Not(negated):
                inner, label = (negated,), "not"
            case _:
                label = _leaf_text(text, term)
        lines.append(TermLine(depth, label, term.span))
        waiting.extend((part, depth + 1) for part in reversed(inner))
    return lines


def _leaf_text(text: str, term: Term) -> str:
    """What a term says, qualifiers and the order of arithmetic written out."""
    start, end = term.span
    written = text[start:end]
    if isinstance(term, Identifier) and written.split()[0] not in KEYWORDS:
        return _identifier_text(term)
    if isinstance(term, Relation) and end - start <= _LONGEST_VALUE:
        return f"{_value_text(term.left)} {term.operator} {_value_text(term.right)}"
    return " ".join(written.split())


def _identifier_text(term: Identifier) -> str:
    """An identifier with the qualifiers that it takes over from the one before."""
    words = term.qualifiers
    after = "" if term.prefix is None else f"/{term.prefix}"
    mask = None if term.mask is None else f"mask {term.mask}"
    protocol = "ether" if words.protocol == "link" else words.protocol
    return " ".join(filter(None, (protocol, words.direction, words.kind, term.text + after, mask)))


def _value_text(root: Value) -> str:
    """A value with parentheses around every operation in another."""
    texts: dict[int, str] = {}
    for node in post_order(root):
        texts[id(node)] = _node_text(node, texts)
    return texts[id(root)]


def _node_text(node: Term | Value, texts: dict[int, str]) -> str:
    def inner(part: Value) -> str:
        return f"({texts[id(part)]})" if isinstance(part, Operation | Negative) else texts[id(part)]

    match node:
        case Operation(operator, left, right):
            return f"{inner(left)} {operator} {inner(right)}"
        case Negative(value):
            return f"-{inner(value)}"
        case Accessor(protocol, index, size):
            name = "ether" if protocol == "link" else protocol
            return f"{name}[{texts[id(index)]}{f':{size}' if size != 1 else ''}]"
        case Number(value):
            return str(value)
        case Length():
            return "len"
    raise AssertionError(node)
