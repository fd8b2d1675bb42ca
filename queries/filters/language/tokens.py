"""The scanner of pcap-filter(7): text to tokens, each with its place in the text.

As in libpcap 1.10.3, the longest token at a place wins, so ``10/8`` is a number, a slash and a number, and ``80-90``
a single name.
"""

from __future__ import annotations

import re
from typing import NamedTuple, cast

from queries.filters.language.terms import Span
from queries.filters.language.words import KEYWORDS, NAMED_NUMBERS

SYNTAX_ERROR = "can't parse filter expression: syntax error"


class Token(NamedTuple):  # made twice as fast as a frozen dataclass
    """A token; ``kind`` is an operator or parenthesis itself, or a word that says what it is.

    Kinds are ``number`` (named ones too), the identifiers' forms ``name ipv4 ipv6 mac arcnet``, those of
    :data:`~queries.filters.language.words.KEYWORDS`, ``error`` and ``end``.  ``word`` is the text, of synonyms always
    the same one, of names without backslash, of errors libpcap's reason; ``number`` the value of a number.
    """

    kind: str
    word: str
    span: Span
    number: int = 0


def scan(text: str) -> list[Token]:
    """All tokens of an expression; the last one is ``end``, or the first that is an ``error``."""
    tokens = []
    position = 0
    while True:
        token = _token(text, position)
        tokens.append(token)
        if token.kind in ("end", "error"):
            return tokens
        position = token.span[1]


_HEX = "[0-9A-Fa-f]"
_OCTET = f"{_HEX}{{1,2}}"
_NUMBER = "(?:0[Xx][0-9A-Fa-f]+|[0-9]+)"
_IPV4 = rf"{_NUMBER}(?:\.{_NUMBER}){{3}}"
_GROUP = f"{_HEX}{{1,4}}"


def _groups(count: int) -> str:
    """So many groups of an IPv6 address."""
    return _GROUP + f"(?::{_GROUP}){{{count - 1}}}" if count else ""


_IPV6_ELIDED = (
    *(f"{_groups(left)}::(?:{_GROUP}(?::{_GROUP}){{0,{6 - left}}})?" for left in range(7)),
    f"{_groups(7)}::",
)
_IPV6_ELIDED_IPV4 = (f"{_groups(left)}::(?:{_GROUP}:){{0,{5 - left}}}{_IPV4}" for left in range(6))

_WITH_COLONS = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("mac", f"{_OCTET}(?::{_OCTET}){{5}}"),
        ("ipv6", _groups(8)),
        ("ipv6", f"{_groups(6)}:{_IPV4}"),
        ("ipv6", "|".join(_IPV6_ELIDED)),
        ("ipv6", "|".join(_IPV6_ELIDED_IPV4)),
        ("bogus mac", f"{_OCTET}:+(?:{_OCTET}:+)+"),
    )
)
"""Tokens with colons inside, in the order that decides between equally long ones."""

_TOKEN = re.compile(
    rf"""
    [ \r\n\t]*
    (?:
        (?P<word> [A-Za-z0-9] (?: [-_.A-Za-z0-9]* [.A-Za-z0-9] )? )
      | (?P<operator> <= | >= | != | == | << | >> | && | \|\| | [-+*/%:\[\]!<>()&|^=] )
      | (?P<escaped> \\ [^ !()\n\t]+ )
      | (?P<arcnet> \${_OCTET} )
      | (?P<end> \Z )
      | (?P<error> . )
    )
    """,
    re.VERBOSE | re.DOTALL,
)
_SAME_OPERATORS = {"&&": "and", "||": "or", "!": "not", "==": "="}

_MAC = re.compile(
    rf"{_OCTET}(?:-{_OCTET}){{5}}|{_OCTET}(?:\.{_OCTET}){{5}}|{_HEX}{{4}}(?:\.{_HEX}{{4}}){{2}}|{_HEX}{{12}}"
)
_DIGITS = re.compile(_NUMBER)
_PERHAPS_SHORT_IPV4 = re.compile(rf"{_NUMBER}(?:\.{_NUMBER}){{1,3}}")


def _token(text: str, position: int) -> Token:
    """The first token from a position on."""
    match = cast("re.Match[str]", _TOKEN.match(text, position))
    kind = cast(str, match.lastgroup)
    found, span = match[kind], match.span(kind)
    if found == ":" or text.startswith(":", span[1]):
        token = _with_colons(text, span[0])
        if token is not None:
            return token
    if kind == "word":
        return _word(found, span)
    if kind == "operator":
        operator = _SAME_OPERATORS.get(found, found)
        return Token(operator, operator, span)
    if kind == "escaped":
        return Token("name", found[1:], span)
    return Token(kind, SYNTAX_ERROR if kind == "error" else found, span)


def _with_colons(text: str, position: int) -> Token | None:
    """The token with colons inside that begins there, None where none does."""
    found = [(kind, match) for kind, each in _WITH_COLONS if (match := each.match(text, position))]
    if not found:
        return None
    kind, match = max(found, key=lambda one: one[1].end())
    token, span = match.group(), match.span()
    if kind == "bogus mac":
        return Token("error", f"bogus ethernet address {token}", span)
    if "." in token and not _is_strict_ipv4(token.rpartition(":")[2]):
        return Token("error", f"bogus IPv6 address {token}", span)
    return Token(kind, token, span)


def _is_strict_ipv4(text: str) -> bool:
    """Whether each of the four numbers is decimal, without leading zeros, and below 256."""
    return all(
        part == "0" or (part[0] != "0" and len(part) <= 3 and int(part) <= 255) for part in text.split(".")
    )


def _word(word: str, span: Span) -> Token:
    if word in KEYWORDS:
        return Token(*KEYWORDS[word], span)
    if word in NAMED_NUMBERS:
        return Token("number", word, span, NAMED_NUMBERS[word])
    if _MAC.fullmatch(word):
        return Token("mac", word, span)
    if _DIGITS.fullmatch(word):
        return _number(word, span)
    return Token("ipv4" if _PERHAPS_SHORT_IPV4.fullmatch(word) else "name", word, span)


def _number(word: str, span: Span) -> Token:
    """A number: hexadecimal after 0x, octal after 0, else decimal; an error unless below 2³²."""
    octal = word.startswith("0") and word.isdigit()
    good = word.partition("8")[0].partition("9")[0] if octal else word
    significant = good.lower().removeprefix("0x").lstrip("0")
    if len(significant) > _MOST_DIGITS:
        return Token("error", f"number {word} overflows 32 bits", span)
    number = int(significant or "0", 8 if octal else 10 if word.isdigit() else 16)
    if number >= 1 << 32:
        return Token("error", f"number {word} overflows 32 bits", span)
    if good != word:
        return Token("error", f"number {word} contains non-octal digit", span)
    return Token("number", word, span, number)


_MOST_DIGITS = 11
"""As many significant digits as a number below 2³² has at most, in octal."""
