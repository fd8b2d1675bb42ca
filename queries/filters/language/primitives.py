"""What follows the words of conditions that are no identifier: ``vlan 5``, ``byte 0 = 4``, ``type mgt subtype ack``."""

from __future__ import annotations

from collections.abc import Callable

from queries.filters.language.stream import TokenStream
from queries.filters.language.tokens import Token
from queries.filters.language.words import BYTE_RELATIONS, PRIMITIVES, RELATIONS, Arguments

Argument = int | str


def read_arguments(word: str, stream: TokenStream) -> tuple[Argument, ...]:
    """Take the arguments of a primitive from a stream that is past its word; raises :class:`FilterError`."""
    return _READERS[PRIMITIVES[word]](stream)


def read_number(stream: TokenStream) -> Token:
    """Take a number, which may stand in parentheses, from a stream; raises :class:`FilterError`."""
    depth = 0
    while stream.accept("("):
        depth += 1
    token = stream.take("number")
    for _ in range(depth):
        stream.take(")")
    return token


def _one_of(*kinds: str) -> Callable[[TokenStream], tuple[Argument, ...]]:
    def read(stream: TokenStream) -> tuple[Argument, ...]:
        return (_argument(stream.take(*kinds)),)

    return read


def _argument(token: Token) -> Argument:
    return token.number if token.kind == "number" else token.word


def _nothing(_: TokenStream) -> tuple[Argument, ...]:
    return ()


def _perhaps_number(stream: TokenStream) -> tuple[Argument, ...]:
    return (read_number(stream).number,) if stream.current.kind in ("number", "(") else ()


def _perhaps_llc_format(stream: TokenStream) -> tuple[Argument, ...]:
    token = stream.accept("name")
    if token is None and (stream.current.kind, stream.current.word) == ("primitive", "rnr"):
        token = stream.take("primitive")
    return () if token is None else (token.word,)


def _type(stream: TokenStream) -> tuple[Argument, ...]:
    kind = _argument(stream.take("number", "name"))
    if (stream.current.kind, stream.current.word) != ("primitive", "subtype"):
        return (kind,)
    stream.take("primitive")
    return kind, _argument(stream.take("number", "name"))


def _compared_byte(stream: TokenStream) -> tuple[Argument, ...]:
    index = stream.take("number").number
    return index, stream.take(*BYTE_RELATIONS).word, stream.take("number").number


def _field(stream: TokenStream) -> tuple[Argument, ...]:
    if relation := stream.accept(*RELATIONS):
        return relation.word, stream.take("number").number
    if not stream.accept("("):
        return (stream.take("number").number,)
    numbers = [stream.take("number").number]
    while stream.accept("or"):
        numbers.append(stream.take("number").number)
    stream.take(")")
    return tuple(numbers)


_READERS: dict[Arguments, Callable[[TokenStream], tuple[Argument, ...]]] = {
    Arguments.NONE: _nothing,
    Arguments.NUMBER: _one_of("number"),
    Arguments.NAME: _one_of("name"),
    Arguments.NUMBER_OR_NAME: _one_of("number", "name"),
    Arguments.PERHAPS_NUMBER: _perhaps_number,
    Arguments.PERHAPS_LLC_FORMAT: _perhaps_llc_format,
    Arguments.TYPE: _type,
    Arguments.COMPARED_BYTE: _compared_byte,
    Arguments.FIELD: _field,
}
