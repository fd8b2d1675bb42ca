"""What a filter expression says, as a tree: what the parser makes, and every later step reads.

Qualifiers are written out: an identifier that inherits those of the term before it (``port 80 or 81``) carries them
itself.  Every term knows its span, the octets of the text that it came from.
"""

from __future__ import annotations

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
    """A protocol's name alone: ``tcp``, ``arp``, ``stp``, …"""

    name: str
    span: Span


@dataclass(frozen=True, slots=True)
class Qualifiers:
    """The words before an identifier, None where there is none.

    ``protocol`` is a protocol's name as written, but with synonyms made one (``link`` for ether, fddi, tr, wlan: see
    the parser); ``direction`` one of src, dst, ``src or dst``, ``src and dst``, ra, ta, addr1, …, addr4; ``kind`` one
    of host, net, port, portrange, gateway, proto, protochain.
    """

    protocol: str | None
    direction: str | None
    kind: str | None


IdentifierForm = Literal["name", "number", "ipv4", "ipv6", "mac", "arcnet"]


@dataclass(frozen=True, slots=True)
class Identifier:
    """An identifier with its qualifiers: ``dst net 10.0.0.0/8``, ``port 80``, ``proto \\tcp``.

    ``text`` is as written, without backslash; ``number`` is its value where the form is ``number``; ``prefix`` the
    mask length after a slash, ``mask`` the text after the word ``mask``, else None.
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
    that no packet table decodes (ifname, vpi, sio, …).

    ``arguments`` are what follows the word, in order: numbers, names, and for byte (index, operator, value).
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
    """Octets of a packet as a number: ``tcp[12:2]``; ``protocol`` as in :class:`Qualifiers`, ``size`` as written."""

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
