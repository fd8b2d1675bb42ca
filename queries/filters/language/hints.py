"""What may have been meant where an expression breaks the grammar."""

from __future__ import annotations

from dataclasses import dataclass

from queries.filters.language.names import service
from queries.filters.language.tokens import Token
from queries.filters.language.words import (
    KEYWORDS,
    NAMED_NUMBERS,
    OPERATORS,
    PRIMITIVES,
    PROTOCOLS,
    RELATIONS,
    Arguments,
)

_IDENTIFIERS = frozenset({"name", "number", "ipv4", "ipv6", "mac", "arcnet"})
_QUALIFIERS = frozenset({"direction", "kind", "kind alone"})
_KEYWORD_KINDS = _QUALIFIERS | {"protocol", "primitive", "length", "mask"}
_BEGIN_TERM = _QUALIFIERS | {"protocol", "primitive", "not", "("}
_BEFORE_VALUE = RELATIONS | OPERATORS | {"["}
_START = Token("start", "", (0, 0))


@dataclass(frozen=True, slots=True)
class _Place:
    """The token that can't stand where it does, and its neighbours."""

    text: str
    tokens: list[Token]
    at: int

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    @property
    def before(self) -> Token:
        return self.tokens[self.at - 1] if self.at else _START

    @property
    def after(self) -> Token:
        return self.tokens[min(self.at + 1, len(self.tokens) - 1)]

    @property
    def before_parentheses(self) -> Token:
        """The token before negations and parentheses that open right before this one."""
        at = self.at - 1
        while at >= 0 and self.tokens[at].kind in ("(", "not"):
            at -= 1
        return self.tokens[at] if at >= 0 else _START

    def written(self, token: Token) -> str:
        """A token as it is written."""
        return self.text[slice(*token.span)]

    def opened(self, bracket: str, closing: str) -> int:
        """How many brackets are open before the token."""
        kinds = [token.kind for token in self.tokens[: self.at]]
        return kinds.count(bracket) - kinds.count(closing)


def hint(text: str, tokens: list[Token], at: int) -> str | None:
    """What may have been meant by the token of that number, which can't stand there; None where nothing is likely."""
    place = _Place(text, tokens, at)
    return next((found for rule in _RULES if (found := rule(place)) is not None), None)


_CHARACTERS = {
    "'": "quotes are for the shell alone",
    '"': "quotes are for the shell alone",
    ",": "terms are joined by 'and' or 'or'",
    ";": "terms are joined by 'and' or 'or'",
    "#": "an expression has no comments",
    "\\": "a name has to follow the backslash",
    "{": "terms are grouped by parentheses",
    "}": "terms are grouped by parentheses",
}


def _character(place: _Place) -> str | None:
    return _CHARACTERS.get(place.written(place.token)) if place.token.kind == "error" else None


def _upper_case(place: _Place) -> str | None:
    lower = place.token.word.lower()
    if place.token.kind == "name" and (lower in KEYWORDS or lower in NAMED_NUMBERS):
        return f"keywords are lower-case: {lower}"
    return None


_MISSPELT_RELATIONS = {
    ("=", "<"): "<=",
    ("=", ">"): ">=",
    ("<", ">"): "!=",
    ("=", "="): "=",
    ("not", "="): "!=",
    ("=", "not"): "!=",
}


def _misspelt_relation(place: _Place) -> str | None:
    before, token, after = place.before.kind, place.token.kind, place.after.kind
    relation = _MISSPELT_RELATIONS.get((before, token)) or _MISSPELT_RELATIONS.get((token, after))
    return f"perhaps {relation} is meant" if relation else None


def _single_bit_operator(place: _Place) -> str | None:
    if place.token.kind not in ("|", "&"):
        return None
    return "terms are joined by 'or'" if place.token.kind == "|" else "terms are joined by 'and'"


def _keyword_as_name(place: _Place) -> str | None:
    if place.token.kind not in _KEYWORD_KINDS:
        return None
    qualifier, keyword = place.before_parentheses, place.written(place.token)
    if qualifier.kind == "kind alone":
        return f"after '{qualifier.word}' the name of a protocol needs a backslash: \\{keyword}"
    if qualifier.kind == place.token.kind == "direction":
        return f"a word is missing between: {qualifier.word} or {keyword}"
    if qualifier.kind == "direction" and place.token.kind == "kind alone":
        return f"'{keyword}' has no direction"
    if qualifier.kind in _QUALIFIERS and place.token.kind in ("protocol", "direction"):
        return f"'{keyword}' comes first: {keyword} {qualifier.word}"
    if qualifier.kind in _QUALIFIERS:
        return f"a name that is a keyword, too, needs a backslash: \\{keyword}"
    return None


def _short_network(place: _Place) -> str | None:
    before, token, after = place.before, place.token, place.after
    if (
        (before.kind, token.kind, after.kind) == ("number", "/", "number")
        and before.number < 256
        and after.number <= 32
    ):
        return f"one number is no address: {before.number}.0.0.0/{after.number}"
    return None


def _compared_word(place: _Place) -> str | None:
    if place.token.kind not in RELATIONS:
        return None
    if place.before.word in ("port", "portrange"):
        return "ports are compared by portrange, or as octets: portrange 1-1023, tcp[2:2] < 1024"
    if place.before.kind == "protocol":
        return f"only numbers are compared, such as octets of a header: {place.written(place.before)}[0] = 1"
    if place.before.kind == "primitive":
        return f"only numbers are compared, and '{place.written(place.before)}' is none"
    compared = any(token.kind in RELATIONS for token in place.tokens[: place.at])
    return "comparisons are joined by 'and'" if compared and not place.opened("[", "]") else None


_TAKES = {
    Arguments.NUMBER: "a number",
    Arguments.NAME: "a name",
    Arguments.NUMBER_OR_NAME: "a number or name",
    Arguments.PERHAPS_NUMBER: "a number",
    Arguments.PERHAPS_LLC_FORMAT: "a name",
    Arguments.TYPE: "a number or name",
    Arguments.COMPARED_BYTE: "a number",
    Arguments.FIELD: "a number",
}


def _argument(place: _Place) -> str | None:
    """The argument of a primitive is of another kind, or missing though there has to be one."""
    word = place.before_parentheses
    takes = _TAKES.get(PRIMITIVES[word.word]) if word.kind == "primitive" else None
    if takes is None or place.token.kind not in (*_IDENTIFIERS, "-", "(", ")", "end", "and", "or"):
        return None
    sign = " without sign" if place.token.kind == "-" else ""
    return f"'{place.written(word)}' takes {takes}{sign}"


def _no_number(place: _Place) -> str | None:
    before, token = place.before, place.token
    if token.kind == "-" and before.kind in _QUALIFIERS:
        return f"a number after '{place.written(before)}' has no sign"
    if token.kind == "name" and (before.kind in _BEFORE_VALUE or place.after.kind == "["):
        return (
            f"'{token.word}' is no {'protocol' if place.after.kind == '[' else 'number'} that has a name here"
        )
    if token.kind == "number" and before.kind == "mask":
        return f"a mask is written as an address; as a number it has a slash: /{token.word}"
    if token.kind == "%" and before.kind == "ipv6":
        return "addresses in packets have no zone"
    return None


def _without_qualifier(place: _Place) -> str | None:
    """An identifier that no word says what it is."""
    before, token = place.before, place.token
    written = place.written(token)
    if token.kind not in _IDENTIFIERS or before.kind not in ("start", "(", "not", "protocol"):
        return None
    if "." in token.word and token.kind == "name" and token.word.partition(".")[0] in PROTOCOLS:
        return "this looks like a display filter of Wireshark; here it is written like 'tcp port 80'"
    if token.word == "vxlan":
        return "libpcap 1.10 does not know vxlan yet"
    protocol = (
        f"{place.written(before)} " if before.kind == "protocol" else "ether " if token.kind == "mac" else ""
    )
    if token.kind == "number" or service(token.word):
        return f"say what it is: {protocol}port {written}"
    return f"say what it is: {protocol}host {written}"


def _missing_join(place: _Place) -> str | None:
    ends_term = place.before.kind in _IDENTIFIERS | {"protocol", "primitive", ")"}
    if not ends_term or place.token.kind not in _BEGIN_TERM | _IDENTIFIERS:
        return None
    return f"'and' or 'or' is missing before '{place.written(place.token)}'"


_NOTHING_FOLLOWS = {
    **dict.fromkeys(_QUALIFIERS, "an address, number or name"),
    **dict.fromkeys(("and", "or", "not", "("), "a term"),
    **dict.fromkeys(_BEFORE_VALUE, "a number"),
    "mask": "an address",
}


def _nothing_follows(place: _Place) -> str | None:
    if place.token.kind in ("end", ")", "]", ":", "and", "or") and place.before.kind in _NOTHING_FOLLOWS:
        return f"{_NOTHING_FOLLOWS[place.before.kind]} has to follow '{place.written(place.before)}'"
    if place.token.kind in ("and", "or") and place.before.kind == "start":
        return f"a term has to stand before '{place.written(place.token)}'"
    return None


def _unbalanced(place: _Place) -> str | None:
    if place.token.kind == "]" or (place.token.kind == ")" and place.opened("(", ")") == 0):
        return f"no {'bracket' if place.token.kind == ']' else 'parenthesis'} is open"
    if place.opened("[", "]"):
        return "a bracket is not closed"
    return "a parenthesis is not closed" if place.token.kind == "end" and place.opened("(", ")") else None


def _no_comparison(place: _Place) -> str | None:
    if place.token.kind not in ("end", "and", "or", ")"):
        return None
    if [token.kind for token in place.tokens[place.at - 3 : place.at]] == ["(", "(", "number"]:
        return "a list of numbers begins with no other list"
    if place.before.kind in ("]", "length", "number", ")"):
        return "a number alone is no term: port 80, len > 60, tcp[13] = 2"
    if place.before.kind == "protocol":
        return f"only numbers are compared, such as octets of a header: {place.written(place.before)}[0]"
    return None


_RULES = (
    _character,
    _upper_case,
    _misspelt_relation,
    _single_bit_operator,
    _keyword_as_name,
    _short_network,
    _compared_word,
    _argument,
    _no_number,
    _without_qualifier,
    _missing_join,
    _nothing_follows,
    _unbalanced,
    _no_comparison,
)
"""What looks most like a certain mistake comes first."""
