"""What a filter expression does on one link type: tests of loads, and where to go from each.

A program is what libpcap's unoptimised code is, without registers: a list of tests in textual order, each of which
leads forward to another test, to acceptance or to rejection.  A load outside of the octets captured, or a division by
zero at run time, rejects the packet at once, whatever stands around it (``not`` too).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ACCEPT = -1
REJECT = -2


@dataclass(frozen=True, slots=True)
class Constant:
    """An unsigned 32-bit number."""

    value: int


@dataclass(frozen=True, slots=True)
class WireLength:
    """The frame's length on the wire."""


@dataclass(frozen=True, slots=True)
class Load:
    """Octets of the frame, big-endian, at ``offset + index``; rejects unless all of them were captured.

    The sum does not wrap: ``index`` is an unsigned 32-bit value (None is 0), ``offset`` a constant below 2³².
    """

    offset: int
    size: Literal[1, 2, 4]
    index: Operand | None = None


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """``+ - * / % & | ^ << >>`` modulo 2³²; division and remainder by zero reject, shifts by 32 and more give 0."""

    operator: str
    left: Operand
    right: Operand


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """Whether ``protochain`` meets protocol ``number``: 1 or 0; rejects where a load of its walk lies outside.

    The walk starts with the protocol that the IP header at ``start`` names (IPv4: octet 9, IPv6: octet 6) and, where
    ``position`` counts from ``start``, with ``position`` behind that header (IPv4: 4 times the low 4 bits of octet 0,
    IPv6: 40).  It ends at ``number`` (1), at 59 and at whatever it can't step over (0).  With ``next`` the octet at
    ``position``, ``length`` the one after it, a step is

    - over 0, 43, 44 and 60, of IPv6 only: to ``next``, ``position`` + 8 · (``length`` + 1);
    - over 51 (AH): to ``next``, with ``position`` = 4 · (``length`` + 2), from ``start``, not from the header.

    Where the octet at ``position`` is outside, ``length`` is not asked for (both reject).  AH may thus lead back: a
    walk that comes to a protocol at the same position once more rejects (libpcap 1.10.3 would walk on for ever).
    """

    version: Literal[4, 6]
    start: Operand
    number: int


Operand = Constant | WireLength | Load | Arithmetic | ChainEnd


@dataclass(frozen=True, slots=True)
class Test:
    """Compares, then goes on: to the test of that number, always a later one, or to ACCEPT or REJECT.

    ``operator`` is one of ``= > >=`` (unsigned); what is compared is all evaluated first.
    """

    left: Operand
    operator: Literal["=", ">", ">="]
    right: Operand
    if_true: int
    if_false: int


@dataclass(frozen=True, slots=True)
class Program:
    """A filter for frames of one link type; without tests it accepts everything.

    ``before`` are loads made before the first test on every frame (lengths of link headers that vary), only for
    whether they reject.
    """

    link_type: int
    tests: tuple[Test, ...]
    before: tuple[Operand, ...] = ()
