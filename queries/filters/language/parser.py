"""The parser of pcap-filter(7): text to the :mod:`~queries.filters.language.terms` that libpcap 1.10.3 reads in it.

What is open stands in lists, no function calls itself, so that no nesting is too deep.
"""

from __future__ import annotations

from pcap2arrow.errors import FilterError
from queries.filters.language.groups import Admits, Group
from queries.filters.language.primitives import read_arguments, read_number
from queries.filters.language.stream import MAX_DEPTH, TokenStream
from queries.filters.language.terms import (
    Identifier,
    IdentifierForm,
    Number,
    Primitive,
    Protocol,
    Qualifiers,
    Relation,
    Span,
    Term,
)
from queries.filters.language.tokens import Token
from queries.filters.language.values import read_value
from queries.filters.language.words import OPERATORS, PRIMITIVES_OF_A_PROTOCOL, RELATIONS


def parse(text: str) -> Term | None:
    """What a filter expression says; None for one without words, which accepts every packet.

    It takes and refuses what libpcap's scanner and grammar do; whether names, qualifiers and arguments mean anything
    on a link type is not looked at.  Raises :class:`FilterError` with libpcap's reason, the span of the token that is
    wrong, and a hint where it is likely what was meant.
    """
    stream = TokenStream(text)
    return None if stream.accept("end") else _read_expression(stream)


def _read_expression(stream: TokenStream) -> Term:
    values = _value_parentheses(stream.tokens)
    groups = [_group(stream, Admits.TERM, None)]
    while True:
        term, identifier = _read_operand(stream, groups, values)
        while True:
            group = groups[-1]
            group.add(term, stream.end, identifier=identifier)
            if word := stream.accept("and", "or"):
                group.go_on(word.kind, stream.current.span[0])
                break
            if len(groups) == 1:
                stream.take("end")
                return group.term
            stream.take(")")
            term, identifier = group.term, bool(groups.pop().is_list)


def _group(stream: TokenStream, admits: Admits, qualifiers: Qualifiers | None) -> Group:
    start = stream.current.span[0]
    return Group(admits, qualifiers, start, start)


def _read_operand(stream: TokenStream, groups: list[Group], values: frozenset[int]) -> tuple[Term, bool]:
    """Take negations, parentheses and qualifiers up to a whole term, and that.

    The result is the term, and whether it is an identifier.  ``values`` are the parentheses around arithmetic.
    """
    while True:
        group = groups[-1]
        kind = stream.current.kind
        is_value = stream.position in values
        if stream.accept("not"):
            group.negate()
        elif kind == "(" and not is_value and group.admits & (Admits.TERM | Admits.LIST):
            if len(groups) >= MAX_DEPTH:
                raise stream.too_deep()
            stream.take("(")
            groups.append(_group(stream, group.admits.inside, group.qualifiers))
        elif Admits.TERM in group.admits and (is_value or _begins_value(stream)):
            return _read_relation_or_number(stream, group)
        elif Admits.TERM in group.admits and kind in _BEGIN_TERM:
            term = _read_term(stream, group)
            if term is not None:
                return term, False
        elif Admits.IDENTIFIER in group.admits:
            return _read_identifier(stream, group), True
        else:
            raise stream.refusal()


_BEGIN_TERM = ("protocol", "direction", "kind", "kind alone", "primitive")


def _begins_value(stream: TokenStream) -> bool:
    kind = stream.current.kind
    return kind in ("number", "length", "-") or (kind == "protocol" and stream.following.kind == "[")


def _value_parentheses(tokens: list[Token]) -> frozenset[int]:
    """The positions of all opening parentheses that hold nothing but arithmetic."""
    opened: list[int] = []
    found = set()
    last_of_term = -1
    for position, token in enumerate(tokens):
        if token.kind == "(":
            opened.append(position)
        elif token.kind == ")":
            if opened and opened[-1] > last_of_term:
                found.add(opened[-1])
            del opened[-1:]
        elif token.kind not in _IN_VALUES or (token.kind == "protocol" and tokens[position + 1].kind != "["):
            last_of_term = position
    return frozenset(found)


_IN_VALUES = OPERATORS | {"number", "length", "protocol", "[", "]", ":"}


def _read_relation_or_number(stream: TokenStream, group: Group) -> tuple[Term, bool]:
    """Take a comparison, or where identifiers may stand a number; the term, and whether it is an identifier."""
    start = stream.current.span[0]
    left = read_value(stream)
    relation = stream.accept(*RELATIONS)
    if relation is not None:
        right = read_value(stream)
        group.qualifiers = None
        return Relation(left, relation.word, right, (start, stream.end)), False
    if isinstance(left, Number) and Admits.IDENTIFIER in group.admits:
        return _identifier(stream, group, "number", left.span, number=left.value), True
    raise stream.refusal()


def _read_term(stream: TokenStream, group: Group) -> Term | None:
    """Take a term that begins with a word; of an identifier with qualifiers only those, and None."""
    start = stream.current.span[0]
    token = stream.accept("protocol")
    protocol = token.word if token else None
    direction = _read_direction(stream)
    kind = stream.accept("kind") if direction else stream.accept("kind", "kind alone")
    if direction or kind:
        group.qualify(Qualifiers(protocol, direction, kind.word if kind else None), start)
        return None
    group.qualifiers = None
    word = stream.current.word
    if stream.current.kind == "primitive" and (protocol is None or word in PRIMITIVES_OF_A_PROTOCOL):
        stream.take("primitive")
        arguments = read_arguments(word, stream)
        return Primitive(word, (start, stream.end), arguments, protocol)
    if protocol is None:
        raise stream.refusal()
    return Protocol(protocol, (start, stream.end))


_CONTRARY = {"src": "dst", "dst": "src"}


def _read_direction(stream: TokenStream) -> str | None:
    """Take the words of a direction, if there are any."""
    token = stream.accept("direction")
    if token is None:
        return None
    both = stream.accept("and", "or") if token.word in _CONTRARY else None
    if both is None:
        return token.word
    if stream.current.word != _CONTRARY[token.word]:
        raise stream.refusal()
    stream.take("direction")
    return f"src {both.kind} dst"


def _read_identifier(stream: TokenStream, group: Group) -> Identifier:
    if stream.current.kind in ("number", "("):
        number = read_number(stream)
        return _identifier(stream, group, "number", number.span, number=number.number)
    token = stream.take(*_FORMS)
    form = _FORMS[token.kind]
    prefix = mask = None
    if form in ("ipv4", "ipv6") and stream.accept("/"):
        prefix = stream.take("number").number
    elif form == "ipv4" and stream.accept("mask"):
        mask = stream.take("ipv4").word
    return _identifier(stream, group, form, token.span, prefix=prefix, mask=mask)


_FORMS: dict[str, IdentifierForm] = {
    "name": "name",
    "ipv4": "ipv4",
    "ipv6": "ipv6",
    "mac": "mac",
    "arcnet": "arcnet",
}


def _identifier(
    stream: TokenStream,
    group: Group,
    form: IdentifierForm,
    place: Span,
    *,
    number: int | None = None,
    prefix: int | None = None,
    mask: str | None = None,
) -> Identifier:
    """The identifier whose first token was at ``place`` and whose last one was just taken, with its qualifiers."""
    start = place[0] if group.qualified is None else group.qualified
    if group.qualifiers is None:
        masked = prefix is not None or mask is not None
        reason = _MASK_UNQUALIFIED if masked and form == "ipv4" else _UNQUALIFIED[form]
        raise FilterError(reason, text=stream.text, span=(start, stream.end), hint=_UNQUALIFIED_HINT)
    text = stream.text[slice(*place)].removeprefix("\\")
    return Identifier(group.qualifiers, form, text, (start, stream.end), number, prefix, mask)


_UNQUALIFIED: dict[IdentifierForm, str] = {
    "name": "syntax error in filter expression",
    "number": "syntax error in filter expression",
    "ipv4": "syntax error in filter expression",
    "ipv6": "invalid qualifier against IPv6 address",
    "mac": "ethernet address used in non-ether expression",
    "arcnet": "ARCnet address used in non-arc expression",
}
_MASK_UNQUALIFIED = "Mask syntax for networks only"
_UNQUALIFIED_HINT = "the term before has no words such as 'host' or 'port' that it could share: write them"
