"""The parser of filter expressions: against libpcap's, against cases, and on texts without end."""

from __future__ import annotations

import csv
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from pcap2arrow.errors import FilterError
from queries.filters.language.parser import parse
from queries.filters.language.stream import MAX_DEPTH, TOO_DEEP
from queries.filters.language.terms import (
    Accessor,
    And,
    Identifier,
    Not,
    Number,
    Or,
    Qualifiers,
    Relation,
    Term,
    Value,
    children,
    post_order,
)
from queries.filters.language.tokens import SYNTAX_ERROR, scan
from queries.filters.language.words import KEYWORDS, NAMED_NUMBERS
from tests.expressions import addresses, case_rows, mutated, sound, soup, without_names, written_out
from tests.oracles import libpcap

needs_libpcap = pytest.mark.skipif(bool(libpcap.missing()), reason=str(libpcap.missing()))

_SS7 = 140
LINK_TYPES = (1, 1, 1, 105, 113, 117, 123, 129, 140, 276)
"""Link types in a savefile; some words mean something only on one of them."""


def _refusal(text: str) -> str | None:
    """Our reason to refuse an expression, None where it is taken."""
    try:
        parse(text)
    except FilterError as error:
        return error.reason
    return None


def _libpcap_refusal(text: str, dlt: int = 1) -> str | None:
    """libpcap's reason to refuse an expression, None where it is taken."""
    try:
        libpcap.compile(text, dlt=dlt)
    except libpcap.RefusedError as error:
        return str(error)
    return None


def _code(text: str, dlt: int) -> list[tuple[int, int, int, int]] | str:
    """libpcap's code, or its reason to refuse."""
    try:
        return libpcap.compile(text, dlt=dlt).instructions
    except libpcap.RefusedError as error:
        return str(error)


# Cases


@pytest.mark.parametrize(("text", "kinds"), case_rows("tokens.tsv"))
def test_tokens(text: str, kinds: str) -> None:
    found = [each.kind if each.word in (each.kind, "") else f"{each.kind}:{each.word}" for each in scan(text)]
    assert [each.partition(":")[0] if each.startswith("error") else each for each in found] == kinds.split(
        " "
    )


@pytest.mark.parametrize(("text", "meant"), case_rows("terms.tsv"))
def test_terms(text: str, meant: str) -> None:
    term = parse(text)
    assert term is not None
    assert written_out(term) == meant


@needs_libpcap
def test_terms_are_what_libpcap_reads() -> None:
    cases = {
        text: meant for text, meant in case_rows("terms.tsv") if "host \\" not in meant
    }  # asks no name server
    read = {text: [_code(text, dlt) for dlt in LINK_TYPES] for text in cases}
    assert read == {text: [_code(meant, dlt) for dlt in LINK_TYPES] for text, meant in cases.items()}


@pytest.mark.parametrize(("text", "span", "hint"), case_rows("refused.tsv"))
def test_refusals(text: str, span: str, hint: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text)
    error = caught.value
    assert (error.reason, f"{error.span[0]}-{error.span[1]}", error.hint or "") == (SYNTAX_ERROR, span, hint)
    assert error.text == text


@pytest.mark.parametrize(("text", "span", "reason"), case_rows("refused_otherwise.tsv"))
def test_refusals_with_other_reasons(text: str, span: str, reason: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text)
    error = caught.value
    assert (error.reason, f"{error.span[0]}-{error.span[1]}") == (reason, span)


@needs_libpcap
def test_libpcap_refuses_the_same() -> None:
    refused = {text: SYNTAX_ERROR for text, *_ in case_rows("refused.tsv")}
    refused |= {text: reason for text, _, reason in case_rows("refused_otherwise.tsv")}
    assert {text: _libpcap_refusal(text, _SS7 if "sio" in text else 1) for text in refused} == refused


def test_errors_show_the_place() -> None:
    with pytest.raises(FilterError) as caught:
        parse("ip proto tcp")
    assert str(caught.value) == (
        "can't parse filter expression: syntax error\n"
        "  ip proto tcp\n"
        "           ^^^\n"
        "  hint: after 'proto' the name of a protocol needs a backslash: \\tcp"
    )


@pytest.mark.parametrize("text", ["", " ", " \t\r\n"])
def test_nothing_accepts_all(text: str) -> None:
    assert parse(text) is None


# What a term carries


def test_identifiers_carry_their_form() -> None:
    text = "host \\a.b or 10 or 10.0 or ::1/64 or 0:0:0:0:0:1 or $1a or 10.0.0.0 mask 255.0.0.0 or 10.0.0.0/8"
    term = parse(text)
    assert isinstance(term, Or)
    qualifiers = Qualifiers(None, None, "host")
    assert [
        (one.form, one.text, one.number, one.prefix, one.mask)
        for one in term.terms
        if isinstance(one, Identifier) and one.qualifiers == qualifiers
    ] == [
        ("name", "a.b", None, None, None),
        ("number", "10", 10, None, None),
        ("ipv4", "10.0", None, None, None),
        ("ipv6", "::1", None, 64, None),
        ("mac", "0:0:0:0:0:1", None, None, None),
        ("arcnet", "$1a", None, None, None),
        ("ipv4", "10.0.0.0", None, None, "255.0.0.0"),
        ("ipv4", "10.0.0.0", None, 8, None),
    ]


def test_an_accessor_without_size_has_size_one() -> None:
    term = parse("tcp[tcpflags] = 0x10")
    assert isinstance(term, Relation)
    assert isinstance(term.left, Accessor)
    assert (term.left.protocol, term.left.size, term.left.index) == ("tcp", 1, Number(13, (4, 12)))
    assert term.right == Number(16, (16, 20))


def test_spans() -> None:
    text = "not (tcp src port 80 or 81) and -ip[0:2] + (2) = len or vlan (5)"
    term = parse(text)
    assert term is not None
    assert [text[slice(*node.span)] for node in post_order(term)] == [
        "tcp src port 80",
        "81",
        "tcp src port 80 or 81",
        "not (tcp src port 80 or 81)",
        "0",
        "ip[0:2]",
        "-ip[0:2]",
        "2",
        "-ip[0:2] + (2)",
        "len",
        "-ip[0:2] + (2) = len",
        "not (tcp src port 80 or 81) and -ip[0:2] + (2) = len",
        "vlan (5)",
        text,
    ]


def test_every_word_is_one_token() -> None:
    words = [*KEYWORDS, *NAMED_NUMBERS]
    assert [len(scan(word)) for word in words] == [2] * len(words)
    assert {each.kind for word in NAMED_NUMBERS for each in scan(word)} == {"number", "end"}


# Against libpcap


def test_shared_expressions(shared: Path) -> None:
    texts = (shared / "expressions" / "shared.txt").read_text(encoding="utf-8").splitlines()
    with (shared / "expressions" / "shared_dlt.tsv").open(encoding="utf-8", newline="") as rows:
        texts += [row["expression"] for row in csv.DictReader(rows, delimiter="\t", quoting=csv.QUOTE_NONE)]
    assert len(texts) > 600
    assert {text: _refusal(text) for text in texts} == dict.fromkeys(texts)


def test_shared_syntax_errors(shared: Path) -> None:
    lines = (shared / "expressions" / "invalid.tsv").read_text(encoding="utf-8").splitlines()
    reasons = dict(line.split("\t") for line in lines)
    syntax = {text: reason for text, reason in reasons.items() if reason == SYNTAX_ERROR}
    assert len(syntax) > 60
    assert {text: _refusal(text) for text in syntax} == syntax
    others = {text: _refusal(text) for text in reasons.keys() - syntax.keys()}
    assert {text: reason for text, reason in others.items() if reason not in (None, reasons[text])} == {}


def _differing(texts: list[str], random: Random) -> list[tuple[str, str | None, str | None]]:
    """Texts that libpcap's grammar refuses and we take, or that we refuse and libpcap takes: with both reasons."""
    found = []
    for text in texts:
        ours, theirs = _refusal(text), _libpcap_refusal(text, random.choice(LINK_TYPES))
        if (theirs == SYNTAX_ERROR and ours is None) or (theirs is None and ours is not None):
            found.append((text, ours, theirs))
    return found


@needs_libpcap
def test_addresses_and_numbers_are_scanned_as_libpcap_does() -> None:
    random = Random(3)
    texts = [addresses(random) for _ in range(8000)]
    reasons = {text: (_refusal(text), _libpcap_refusal(text)) for text in texts}
    scanners = {
        text: pair for text, pair in reasons.items() if (pair[1] or "").startswith(("bogus", "number"))
    }
    assert _differing(texts, random) == []
    assert {text: pair for text, pair in scanners.items() if pair[0] != pair[1]} == {}
    assert len(scanners) > 300
    assert sum(pair == (None, None) for pair in reasons.values()) > 100


def _random_texts(shared: Path, random: Random, count: int) -> list[str]:
    lines = (shared / "expressions" / "shared.txt").read_text(encoding="utf-8").splitlines()
    bases = without_names(lines)
    return [soup(random) if number % 2 else mutated(random, bases) for number in range(count)]


@needs_libpcap
def test_it_takes_and_refuses_what_libpcap_does(shared: Path) -> None:
    random = Random(1)
    assert _differing(_random_texts(shared, random, 8000), random) == []


@needs_libpcap
@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 7))
def test_it_takes_and_refuses_what_libpcap_does_at_length(shared: Path, seed: int) -> None:
    random = Random(seed)
    assert _differing(_random_texts(shared, random, 40_000), random) == []


def _misread(texts: list[str], random: Random) -> list[tuple[str, str]]:
    """Texts that mean something else to libpcap than our terms written out: with these."""
    found = []
    for text in texts:
        if _refusal(text) is None and (term := parse(text)) is not None:
            dlt, meant = random.choice(LINK_TYPES), written_out(term)
            if _code(text, dlt) != _code(meant, dlt):
                found.append((text, meant))
    return found


@needs_libpcap
def test_terms_mean_what_libpcap_reads(shared: Path) -> None:
    random = Random(7)
    texts = [sound(random) for _ in range(1500)]
    assert _differing(texts, random) == []
    assert _misread(texts + _random_texts(shared, random, 3000), random) == []


@needs_libpcap
@pytest.mark.long
def test_terms_mean_what_libpcap_reads_at_length(shared: Path) -> None:
    random = Random(8)
    texts = [sound(random) for _ in range(30_000)]
    assert _differing(texts, random) == []
    assert _misread(texts + _random_texts(shared, random, 60_000), random) == []


# Texts without end

DEEP = MAX_DEPTH - 4  # as deep as libpcap's parser has room for, with one parenthesis less

_NESTED: dict[str, Callable[[int], str]] = {
    "parentheses": lambda count: "(" * count + "tcp" + ")" * count,
    "parentheses around a number": lambda count: "(" * count + "1" + ")" * count + " = 1",
    "negations": lambda count: "not " * count + "tcp",
    "signs": lambda count: "-" * count + "1 = 1",
    "accessors": lambda count: "ip[" * (count // 2) + "0" + "]" * (count // 2) + " = 1",
    "lists": lambda count: "port " + "(80 or " * (count // 3) + "80" + ")" * (count // 3),
    "groups": lambda count: "tcp" + " or (udp and (arp" * (count // 6) + "))" * (count // 6),
    "remainders": lambda count: "1" + " % 1" * (count // 2) + " = 1",
}


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _count(root: Term | Value) -> int:
    return sum(1 for _ in post_order(root))


@pytest.mark.parametrize("kind", _NESTED)
def test_what_libpcap_has_room_for_is_not_too_deep(kind: str) -> None:
    term = parse(_NESTED[kind](DEEP))
    assert term is not None
    assert _count(term) > 0


@needs_libpcap
@pytest.mark.parametrize("kind", ["parentheses", "parentheses around a number", "negations", "signs"])
def test_libpcap_has_room_for_no_more(kind: str) -> None:
    assert _libpcap_refusal(_NESTED[kind](DEEP + 2)) == TOO_DEEP


@pytest.mark.parametrize("kind", _NESTED)
@pytest.mark.parametrize("closed", [True, False])
def test_deep_nesting_is_answered_soon(kind: str, closed: bool) -> None:
    text = _NESTED[kind](100_000)
    text = text if closed else text[: len(text) // 2]

    def answer() -> None:
        reason = _refusal(text)
        assert reason in ((None, TOO_DEEP) if closed else (TOO_DEEP, SYNTAX_ERROR))

    assert _seconds(answer) < 5


def test_too_deep_nesting_is_refused() -> None:
    with pytest.raises(FilterError) as caught:
        parse(_NESTED["parentheses"](100_000))
    assert (caught.value.reason, caught.value.span) == (TOO_DEEP, (MAX_DEPTH - 1, MAX_DEPTH))


_LONG: dict[str, tuple[str, int]] = {
    "host 10.0.0.1" + " or 10.0.0.2" * 99_999: ("Or", 100_001),
    "tcp" + " and udp or arp" * 50_000: ("Or", 200_001),
    "tcp[13]" + " + 1" * 50_000 + " = 1": ("Relation", 100_004),
    "(" * 9_000 + "tcp" + " and udp)" * 9_000: ("And", 9_002),
}


@pytest.mark.parametrize("text", _LONG, ids=range(len(_LONG)))
def test_long_expressions(text: str) -> None:
    found: list[Term | None] = []
    assert _seconds(lambda: found.append(parse(text))) < 20
    (term,) = found
    assert term is not None
    assert (type(term).__name__, _count(term)) == _LONG[text]


def test_terms_go_by_pickle() -> None:
    term = parse("not (vlan 5 or tcp[13] & -(len) = 2) and host 10.0.0.1")
    assert pickle.loads(pickle.dumps(term)) == term


def test_parts_of_terms() -> None:
    term = parse("not tcp and -ip[len] < 5 + 6")
    assert isinstance(term, And)
    negation, relation = children(term)
    assert isinstance(negation, Not)
    assert children(negation) == (negation.term,)
    assert isinstance(relation, Relation)
    assert children(relation) == (relation.left, relation.right)
    assert [len(children(side)) for side in children(relation)] == [1, 2]
    assert children(negation.term) == ()
