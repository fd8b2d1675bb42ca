"""From terms to programs: what libpcap 1.10.3 generates, before it optimises, for savefiles of each link type."""

from __future__ import annotations

from dataclasses import dataclass

from pcap2arrow.errors import FilterError
from queries.filters.generate.code import Code, equal, every, load
from queries.filters.generate.identifiers import is_identified
from queries.filters.generate.link_types import link_type as known_link_type
from queries.filters.generate.lists import grouped
from queries.filters.generate.primitives import is_condition
from queries.filters.generate.protocols import is_protocol
from queries.filters.generate.relation import is_related
from queries.filters.generate.state import State
from queries.filters.generate.tree import Leaf, coded, leaves, linked
from queries.filters.generate.variants import resolved
from queries.filters.language.names import Names
from queries.filters.language.terms import Identifier, Primitive, Protocol, Term
from queries.filters.program import Program, Test

__all__ = ["Generated", "generate", "generated"]

_PPI, _PPI_OF_WLAN = 192, 0x6900_0000


@dataclass(frozen=True, slots=True)
class Generated:
    """A program, and the code that it was laid out from, still with its structure (None: it accepts everything)."""

    program: Program
    code: Code | None


def generate(
    term: Term | None, *, link_type: int, netmask: int = 0, names: Names, swapped: bool = False
) -> Program:
    """The program of a term (None: one that accepts everything) for frames of a link type.

    ``link_type`` is the number in the savefile (LINKTYPE_), ``netmask`` that of ``ip broadcast``, ``swapped`` says
    that the savefile is big-endian.  The verdicts are those of ``tcpdump -O -r``; where libpcap's depend on memory
    that it has not set, that is 0.  Raises :class:`FilterError` with libpcap's reason and the term's span where it
    refuses, and :class:`LimitError` for programs that would be too large.
    """
    return generated(term, link_type=link_type, netmask=netmask, names=names, swapped=swapped).program


def generated(
    term: Term | None, *, link_type: int, netmask: int = 0, names: Names, swapped: bool = False
) -> Generated:
    """The same, with the code that the program was laid out from."""
    link = known_link_type(link_type)
    if link is None:
        raise FilterError(f"unknown data link type {link_type} (min 104, max 289)")
    if term is None:
        return Generated(Program(link_type, ()), None)
    has_tunnels = any(isinstance(leaf, Primitive) and leaf.word == "geneve" for leaf in leaves(term))
    state = State(link, names, netmask, swapped, has_tunnels)
    code = coded(term, lambda leaf: _code(state, leaf))
    if state.link.number == _PPI:
        code = every(equal(load(4, 4), _PPI_OF_WLAN), code)
    lengths = state.at_start()
    if state.reads_registers or state.reads_accumulator:
        comparisons = resolved(linked(code), lengths, reads_accumulator=state.reads_accumulator)
    else:
        comparisons = linked(grouped(code))
    tests = tuple(Test(check.left, check.operator, check.right, *where) for check, *where in comparisons)
    return Generated(Program(link_type, tests, tuple(lengths.values())), code)


def _code(state: State, leaf: Leaf) -> Code:
    """The code of a term without and, or and not."""
    try:
        match leaf:
            case Protocol(name):
                return is_protocol(state, name)
            case Identifier():
                return is_identified(state, leaf)
            case Primitive():
                return is_condition(state, leaf)
        return is_related(state, leaf)
    except FilterError as error:
        span = leaf.span if error.span == (0, 0) else error.span
        raise FilterError(error.reason, span=span) from None
