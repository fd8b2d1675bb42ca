"""What in a filter expression may not mean what its author thinks: known traps of libpcap's language."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from queries.filters.language.terms import (
    Accessor,
    And,
    Identifier,
    Not,
    Operation,
    Or,
    Primitive,
    Relation,
    Span,
    Term,
    post_order,
)

_SHIFTS = {
    "vlan": "reads 4 octets further",
    "mpls": "reads behind the label",
    "pppoes": "reads what PPP carries",
    "geneve": "reads what is in the tunnel",
}
_BY_LENGTH_ALONE = frozenset({"less", "greater", "inbound", "outbound", "ifindex"})
_IPV4_ALONE = frozenset({"tcp", "udp", "sctp"})
_SWALLOWING = frozenset({"%", "^"})


@dataclass(frozen=True, slots=True)
class Trap:
    """A trap: its ``kind`` (shift, short, ipv4-only, precedence, fragments), where it is, and a sentence about it."""

    kind: str
    span: Span
    message: str


def traps(text: str, term: Term) -> list[Trap]:
    """The traps of an expression, in the order of the text, each kind once for each place."""
    leaves = list(_leaves(term))
    found = [
        *_shifts(text, leaves),
        *_short_packets(leaves),
        *_values(text, leaves),
        *_fragments(leaves),
    ]
    return sorted(found, key=lambda trap: trap.span)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A term that consists of no others; ``path`` holds those that it is in, outermost first, and its place in each."""

    term: Term
    path: tuple[tuple[Term, int], ...]

    def may_be_passed(self, depth: int) -> bool:
        """Whether what stands around it, from that depth on, may be true without it: an ``or``, or a ``not``."""
        return any(isinstance(around, Or | Not) for around, _ in self.path[depth:])


_DEEPEST = 200


def _leaves(term: Term) -> Iterator[_Leaf]:
    """Leaves in the order of the text; what is nested too deep for anybody to have written it is left out."""
    waiting: list[_Leaf] = [_Leaf(term, ())]
    while waiting:
        leaf = waiting.pop()
        inner: Sequence[Term] = ()
        if isinstance(leaf.term, And | Or):
            inner = leaf.term.terms
        elif isinstance(leaf.term, Not):
            inner = (leaf.term.term,)
        else:
            yield leaf
        if len(leaf.path) < _DEEPEST:
            path = leaf.path
            waiting.extend(
                _Leaf(part, (*path, (leaf.term, place))) for place, part in reversed(list(enumerate(inner)))
            )


def _shifts(text: str, leaves: Sequence[_Leaf]) -> Iterator[Trap]:
    """Shifts that later terms are subject to although they may be evaluated where the shift's own test failed."""
    for place, shift in enumerate(leaves):
        if not (isinstance(shift.term, Primitive) and shift.term.word in _SHIFTS):
            continue
        for later in leaves[place + 1 :]:
            if _looks_inside(later.term) and _is_reached_without(shift, later):
                word, what = shift.term.word, text[slice(*later.term.span)]
                effect = _SHIFTS[word]
                message = f"{what!r} {effect} because of the earlier {word!r}, for packets without it too"
                yield Trap(
                    "shift", shift.term.span, f"{message}: put {word!r} last, as in 'A or ({word} and A)'"
                )
                break


def _is_reached_without(shift: _Leaf, later: _Leaf) -> bool:
    """Whether a later term may be evaluated of packets for which a shift's own test failed."""
    depth = 0
    while shift.path[depth][1] == later.path[depth][1]:
        depth += 1
    return isinstance(shift.path[depth][0], Or) or shift.may_be_passed(depth + 1)


def _looks_inside(term: Term) -> bool:
    """Whether a term loads anything that a shift moves."""
    match term:
        case Primitive(word):
            return word not in _BY_LENGTH_ALONE and word not in ("broadcast", "multicast")
        case Identifier(qualifiers):
            return qualifiers.protocol != "link" or qualifiers.kind in ("proto", "protochain")
        case Relation():
            return any(isinstance(node, Accessor) and node.protocol != "link" for node in post_order(term))
        case _:
            return True


def _short_packets(leaves: Sequence[_Leaf]) -> Iterator[Trap]:
    """Octets asked for where a packet that is too short for them is rejected although other terms could accept it."""
    for leaf in leaves:
        accessed = _accessed(leaf.term)
        if accessed and any(
            isinstance(around, Not) or (isinstance(around, Or) and place < len(around.terms) - 1)
            for around, place in leaf.path
        ):
            message = f"a packet too short for {accessed} is rejected at once, whatever 'not' or 'or' stand around it"
            yield Trap("short", leaf.term.span, message)


def _accessed(term: Term) -> str | None:
    """What a term asks for by its place in the packet, in words; None where it does not."""
    if isinstance(term, Primitive) and term.word == "byte":
        return f"its byte {term.arguments[0]}"
    if isinstance(term, Relation):
        found = [node.protocol for node in post_order(term) if isinstance(node, Accessor)]
        return f"{_name(found[0])}[…]" if found else None
    return None


def _name(protocol: str) -> str:
    """A protocol's name as written most often."""
    return "ether" if protocol == "link" else protocol


def _values(text: str, leaves: Sequence[_Leaf]) -> Iterator[Trap]:
    for leaf in leaves:
        if not isinstance(leaf.term, Relation):
            continue
        protocols = set[str]()
        for node in post_order(leaf.term):
            if isinstance(node, Accessor) and node.protocol in _IPV4_ALONE - protocols:
                protocols.add(node.protocol)
                message = (
                    f"{node.protocol}[…] matches IPv4 alone, and no later fragment; in IPv6 see ip6[40 …]"
                )
                yield Trap("ipv4-only", node.span, message)
            elif isinstance(node, Operation) and _swallows(text, node):
                rest = text[slice(*node.right.span)]
                message = f"{node.operator!r} takes all of {rest!r} as its right side: put parentheses"
                yield Trap("precedence", node.span, message)


def _swallows(text: str, node: Operation) -> bool:
    """Whether the right side is an operation that no parentheses hold together."""
    if node.operator not in _SWALLOWING or not isinstance(node.right, Operation):
        return False
    return not text[: node.right.span[0]].rstrip().endswith("(")


def _fragments(leaves: Sequence[_Leaf]) -> Iterator[Trap]:
    """The first term that asks for ports."""
    for leaf in leaves:
        if isinstance(leaf.term, Identifier) and leaf.term.qualifiers.kind in ("port", "portrange"):
            message = "ports are in the first fragment of a packet alone: later ones never match"
            yield Trap("fragments", leaf.term.span, message)
            return
