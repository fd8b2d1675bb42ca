"""What a filter expression says, as a tree: what the parser makes, and every later step reads.

Qualifiers are written out: an identifier that inherits those of the term before it (``port 80 or 81``) carries them
itself.  Every term knows its span in the text: of all its tokens, but without parentheses around the whole.

Trees may be as deep as texts are long (``1 + 1 + 1 …`` leans to the left, ``1 % 1 % 1 …`` to the right), so no
function that works on one calls itself: :func:`post_order` goes through it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Span = tuple[int, int]
"""Start and end (exclusive) in the text of the expression, in characters."""


@dataclass(frozen=True, slots=True)
class And:
    """All of at least two terms, evaluated in order; nested ones to the left are flattened."""

    terms: tuple[Term, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Or:
    """Any of at least two terms, evaluated in order; nested ones to the left are flattened."""

    terms: tuple[Term, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Not:
    """The contrary of a term that is no ``Not`` itself (pairs are taken out)."""

    term: Term
    span: Span


@dataclass(frozen=True, slots=True)
class Protocol:
    """A protocol's name alone: ``tcp``, ``arp``, ``stp``, …; ``name`` as in :class:`Qualifiers`."""

    name: str
    span: Span


@dataclass(frozen=True, slots=True)
class Qualifiers:
    """The words before an identifier, None where there is none.

    ``protocol`` is a protocol's name as written, but ``link`` for ether, fddi, tr, wlan, ppp and slip, ``esis`` for
    es-is and ``isis`` for is-is (see :data:`queries.filters.language.words.PROTOCOLS`); ``direction`` one of src, dst,
    ``src or dst``, ``src and dst``, ra, ta, addr1, …, addr4; ``kind`` one of host, net, port, portrange, and, never
    with a direction, gateway, proto, protochain.  One of ``direction`` and ``kind`` at least is not None.
    """

    protocol: str | None
    direction: str | None
    kind: str | None


IdentifierForm = Literal["name", "number", "ipv4", "ipv6", "mac", "arcnet"]


@dataclass(frozen=True, slots=True)
class Identifier:
    """An identifier with its qualifiers: ``dst net 10.0.0.0/8``, ``port 80``, ``proto \\tcp``.

    ``text`` is as written, without backslash (a name with one may look like anything, ``\\80`` too); ``number`` is its
    value where the form is ``number`` (named numbers are numbers: ``port tcp-syn`` is port 2); ``prefix`` is the mask
    length after a slash, ``mask`` the text after the word ``mask``, else None.  ``ipv4`` may be short: two to four
    numbers, some perhaps hexadecimal or too great.
    """

    qualifiers: Qualifiers
    form: IdentifierForm
    text: str
    span: Span
    number: int | None = None
    prefix: int | None = None
    mask: str | None = None


@dataclass(frozen=True, slots=True)
class Primitive:
    """Any other condition, by its word: broadcast, multicast (of ``protocol``, None without), less, greater, byte,
    inbound, outbound, ifindex, vlan, mpls, pppoed, pppoes, geneve, llc, type, subtype, dir, and those of link types
    that no packet table decodes (ifname, vpi, sio, …); synonyms are made one.

    ``arguments`` are what follows the word, in order, numbers and names as written: for ``type`` one or two (the
    second is its subtype), for byte (index, operator, value), for vpi, sio and the like (number, …), any of which may
    be meant, or (relation, number).  The ``protocol`` of type, subtype and dir means nothing.
    """

    word: str
    span: Span
    arguments: tuple[int | str, ...] = ()
    protocol: str | None = None


@dataclass(frozen=True, slots=True)
class Relation:
    """A comparison of two unsigned 32-bit values; ``operator`` is one of ``> < >= <= = !=`` (``==`` is ``=``)."""

    left: Value
    operator: str
    right: Value
    span: Span


Term = And | Or | Not | Protocol | Identifier | Primitive | Relation


@dataclass(frozen=True, slots=True)
class Number:
    """A constant, 0 to 2³² - 1."""

    value: int
    span: Span


@dataclass(frozen=True, slots=True)
class Length:
    """The word ``len``: the frame's length on the wire."""

    span: Span


@dataclass(frozen=True, slots=True)
class Accessor:
    """Octets of a packet as a number: ``tcp[12:2]``; ``protocol`` as in :class:`Qualifiers`.

    ``size`` is as written, any number, and 1 where none is.
    """

    protocol: str
    index: Value
    size: int
    span: Span


@dataclass(frozen=True, slots=True)
class Operation:
    """Arithmetic modulo 2³²; ``operator`` is one of ``+ - * / % & | ^ << >>``."""

    operator: str
    left: Value
    right: Value
    span: Span


@dataclass(frozen=True, slots=True)
class Negative:
    """``- value``."""

    value: Value
    span: Span


Value = Number | Length | Accessor | Operation | Negative


def children(node: Term | Value) -> tuple[Term | Value, ...]:
    """The terms and values that a term or value consists of, in the order of the text."""
    match node:
        case And(terms) | Or(terms):
            return terms
        case Not(inner) | Negative(inner):
            return (inner,)
        case Relation(left, _, right) | Operation(_, left, right):
            return left, right
        case Accessor(_, index):
            return (index,)
        case _:
            return ()


def post_order(root: Term | Value) -> Iterator[Term | Value]:
    """The term or value and all in it, parts before the whole, from left to right: as libpcap generates code."""
    waiting: list[tuple[Term | Value, Iterator[Term | Value]]] = [(root, iter(children(root)))]
    while waiting:
        node, rest = waiting[-1]
        part = next(rest, None)
        if part is None:
            waiting.pop()
            yield node
        else:
            waiting.append((part, iter(children(part))))
