"""Filter expressions for tests: random ones, terms written out in full, and the case files under tests/filters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

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
    Primitive,
    Protocol,
    Relation,
    Term,
    Value,
)
from queries.filters.language.tokens import scan
from queries.filters.language.words import KEYWORDS

CASES = Path(__file__).parent / "filters"


def case_lines(name: str) -> list[str]:
    """The lines of a case file that are neither empty nor comments (which begin with ``## ``)."""
    lines = (CASES / name).read_text(encoding="utf-8").split("\n")
    return [line for line in lines if line and not line.startswith("## ")]


def case_rows(name: str) -> list[list[str]]:
    """The fields of each line of a case file with tabs."""
    return [line.split("\t") for line in case_lines(name)]


def written_out(node: Term | Value) -> str:
    """A term as an expression that means the same, with all qualifiers and parentheses."""
    match node:
        case And(terms):
            return f"({' and '.join(map(written_out, terms))})"
        case Or(terms):
            return f"({' or '.join(map(written_out, terms))})"
        case Not(term):
            return f"not {written_out(term)}"
        case Protocol(name):
            return name
        case Identifier():
            return _identifier(node)
        case Primitive(word, _, arguments, protocol):
            return " ".join(filter(None, (protocol, word, _arguments(word, arguments))))
        case Relation(left, operator, right):
            return f"{written_out(left)} {operator} {written_out(right)}"
        case Operation(operator, left, right):
            return f"({written_out(left)} {operator} {written_out(right)})"
        case Negative(value):
            return f"(-{written_out(value)})"
        case Accessor(protocol, index, size):
            return f"{protocol}[{written_out(index)}:{size}]"
        case Number(number):
            return str(number)
        case Length():
            return "len"


def _identifier(term: Identifier) -> str:
    words = term.qualifiers
    text = f"\\{term.text}" if term.form == "name" else term.text
    if term.form == "number":
        text = str(term.number)
    slash = "" if term.prefix is None else f"/{term.prefix}"
    mask = "" if term.mask is None else f" mask {term.mask}"
    return " ".join(filter(None, (words.protocol, words.direction, words.kind, text + slash + mask)))


def _arguments(word: str, arguments: Sequence[int | str]) -> str:
    texts = [
        f"\\{each}" if isinstance(each, str) and word not in ("byte", "llc") and each.isalpha() else str(each)
        for each in arguments
    ]
    if word == "type":
        return " subtype ".join(texts)
    if len(texts) > 1 and all(isinstance(each, int) for each in arguments):
        return f"({' or '.join(texts)})"
    return " ".join(texts)


_VOCABULARY: dict[str, list[str]] = {"keyword": list(KEYWORDS)}
for _kind, _words in case_rows("vocabulary.tsv"):
    _VOCABULARY.setdefault(_kind, []).extend(_words.split(" "))
_WEIGHTS = {"frequent": 50, "keyword": 15, "operator": 15, "part": 0}
"""How often a kind of tokens is taken, of the others 3."""


def soup(random: Random) -> str:
    """Some random tokens."""
    words = [_random_token(random) for _ in range(random.randint(1, random.choice((4, 8, 14))))]
    return random.choice((" ", " ", " ", "")).join(words)


def _random_token(random: Random) -> str:
    weights = [_WEIGHTS.get(kind, 3) for kind in _VOCABULARY]
    return random.choice(*random.choices(list(_VOCABULARY.values()), weights))


_NUMBERS = ("0", "1", "12", "ff", "abcd", "0x1", "10", "256", "99")


def addresses(random: Random) -> str:
    """Something like an address or number, after words for it (libpcap asks no name server for these)."""
    if random.random() < 0.5:
        text = "".join(random.choice(_VOCABULARY["part"]) for _ in range(random.randint(1, 14)))
    else:
        between, other = random.choice("::.-"), random.choice((":", "::", ".", "-"))
        parts = random.choices(_NUMBERS, k=random.randint(2, 9))
        text = (
            random.choice(("", "::")) + between.join(parts[:-1]) + random.choice((between, other)) + parts[-1]
        )
    head = random.choice(("net ", "ether host ", "port ", "net ::1 or net ", "len = "))
    return head + text + random.choice(("", "", " or ::1", " or 80"))


def mutated(random: Random, texts: Sequence[str]) -> str:
    """One or two expressions, with some tokens dropped, doubled, swapped or put in."""
    text = random.choice(texts)
    if random.random() < 0.5:
        text += random.choice((" and ", " or ", " and not ", " or (")) + random.choice(texts)
    words = [text[slice(*token.span)] for token in scan(text)]
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        first, second = random.randrange(len(words)), random.randrange(len(words))
        change = random.randrange(4)
        if change == 0:
            words[first] = ""
        elif change == 1:
            words.insert(first, words[second])
        elif change == 2:
            words[first], words[second] = words[second], words[first]
        else:
            words.insert(first, _random_token(random))
    return " ".join(words)


_ATOMS = (
    "tcp",
    "arp",
    "ether[0] & 1 = 0",
    "vlan",
    "less 60",
    "ip broadcast",
    "byte 0 = 4",
    "ip[8] > 5",
    "mpls 5",
)
_HEADS = {
    "port": ("80", "tcp-syn", "0x50"),
    "tcp src or dst port": ("443", "(22)"),
    "src and dst net": ("10.0.0.0/8", "10.1", "192.168.0.0 mask 255.255.0.0", "2001:db8::/32"),
    "ip dst host": ("10.0.0.1", "1.2.3.4"),
    "dst": ("10.0.0.1", "2001:db8::1"),
    "ether src": ("0:0:0:0:0:1", "001122334455"),
    "ip proto": ("6", "17"),
}


def sound(random: Random, *, depth: int = 3) -> str:
    """An expression that libpcap takes, but perhaps identifiers without qualifiers to take over, or of other kinds."""
    heads = random.sample(sorted(_HEADS), 2)
    terms = [
        _sound_term(random, heads, depth, may_be_bare=position > 0)
        for position in range(random.randint(1, 4))
    ]
    return _joined(random, terms)


def _joined(random: Random, terms: Sequence[str]) -> str:
    return terms[0] + "".join(random.choice((" and ", " or ", "&&", "||")) + term for term in terms[1:])


def _sound_term(random: Random, heads: Sequence[str], depth: int, *, may_be_bare: bool) -> str:
    negation = random.choice(("", "", "", "not ", "!", "not not "))
    choice = random.random()
    head = random.choice(heads)
    if choice < 0.3 and may_be_bare:
        return negation + _sound_list(random, head, depth)
    if choice < 0.55:
        return f"{negation}{head} {_sound_list(random, head, depth)}"
    if choice < 0.7 and depth:
        return f"{negation}({sound(random, depth=depth - 1)})"
    if choice < 0.85:
        relation = random.choice(("=", "!=", "<", ">=", "=="))
        return f"{negation}{_sound_value(random, 3)} {relation} {_sound_value(random, 3)}"
    return negation + random.choice(_ATOMS)


def _sound_list(random: Random, head: str, depth: int) -> str:
    """An identifier, or a list of some."""
    one = random.choice(_HEADS[head])
    if random.random() < 0.7 or not depth:
        return random.choice(("", "", "", "not ")) + one
    return f"({_joined(random, [one, *(_sound_list(random, head, depth - 1) for _ in range(random.randint(1, 2)))])})"


def _sound_value(random: Random, depth: int) -> str:
    """A value that needs few enough registers."""
    if not depth or random.random() < 0.3:
        return random.choice(("1", "0x10", "len", "ip[0]", "tcp[2:2]", "icmp-echo", "7", "(3)"))
    choice = random.random()
    inner = _sound_value(random, depth - 1)
    if choice < 0.15:
        return f"({inner})"
    if choice < 0.25:
        return f"-{inner}"
    if choice < 0.35:
        return f"ip[{inner}:2]"
    operator = random.choice(["+", "-", "*", "&", "|", "%", "^", "<<", ">>"])
    return f"{inner} {operator} {_sound_value(random, depth - 1)}"


def without_names(texts: Sequence[str]) -> list[str]:
    """Those of some expressions in which no name stands that libpcap could ask a name server for."""
    return [text for text in texts if all(token.kind != "name" for token in scan(text))]
