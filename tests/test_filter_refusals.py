"""What filters are refused, against libpcap and the shared lists; and how far nesting, length and numbers may go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import polars as pl
import pytest

from pcap2arrow import read_capture
from pcap2arrow.errors import FilterError
from queries.filters.compiled import Filter, compile_filter
from queries.filters.generate.link_types import LINK_TYPES
from queries.filters.language.parser import parse
from queries.filters.verdicts import table_verdicts
from tests.commands import SAMPLE
from tests.expressions import mutated, sound, without_names
from tests.grammar import expression
from tests.oracles import libpcap

needs_libpcap = pytest.mark.skipif(bool(libpcap.missing()), reason=str(libpcap.missing()))

ETHERNET = 1


def _refusal(text: str, link_type: int = ETHERNET) -> FilterError | None:
    try:
        compile_filter(text).for_link_type(link_type)
    except FilterError as error:
        return error
    return None


def _libpcap_refusal(text: str, link_type: int = ETHERNET, *, optimize: bool = False) -> str | None:
    try:
        libpcap.compile(text, dlt=link_type, optimize=optimize)
    except libpcap.RefusedError as error:
        return str(error)
    return None


def _rows(shared: Path, name: str) -> list[list[str]]:
    lines = (shared / "expressions" / name).read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines]


def _sample() -> pl.DataFrame:
    table = pl.from_arrow(read_capture(SAMPLE))
    assert isinstance(table, pl.DataFrame)
    return table


# The shared lists


def test_invalid_expressions_are_refused_for_the_same_reason(shared: Path) -> None:
    rows = _rows(shared, "invalid.tsv")
    found = {text: _refusal(text) for text, _ in rows}
    assert {text: error and error.reason for text, error in found.items()} == dict(rows)
    for text, error in found.items():
        assert error is not None
        assert error.text == text
        assert 0 <= error.span[0] <= error.span[1] <= len(text)
        assert str(error).startswith(f"{error.reason}\n  {text}\n  ")


HINTS = {
    "ip proto tcp": r"needs a backslash: \tcp",
    "proto tcp": r"needs a backslash: \tcp",
    "ip protochain tcp": r"needs a backslash: \tcp",
    "iso proto isis": r"needs a backslash: \isis",
    "tcp udp": "'and' or 'or' is missing before 'udp'",
    "host 10.0.0.1 10.0.0.2": "'and' or 'or' is missing before '10.0.0.2'",
    "1.2.3.4": "host 1.2.3.4",
    "net 10/8": "10.0.0.0/8",
    "tcp == udp": "tcp[0] = 1",
    "tcp | udp": "'or'",
    "len <> 5": "!=",
}
"""Expressions of invalid.tsv, and what the hint has to say."""


def test_refusals_have_hints(shared: Path) -> None:
    errors = {text: _refusal(text) for text, _ in _rows(shared, "invalid.tsv")}
    assert HINTS.keys() <= errors.keys()
    for text, error in errors.items():
        hint = None if error is None else error.hint
        assert HINTS.get(text, "") in (hint or ""), text
    syntax = [error for error in errors.values() if error and "syntax error" in error.reason]
    assert sum(error.hint is not None for error in syntax) > len(syntax) * 0.8


def test_expressions_that_reject_all_packets(shared: Path) -> None:
    """libpcap's optimiser refuses them; they select nothing."""
    table = _sample()
    for text, reason in _rows(shared, "rejects-all.tsv"):
        if not libpcap.missing():
            assert _libpcap_refusal(text) is None
            assert _libpcap_refusal(text, optimize=True) == reason
        assert compile_filter(text).for_link_type(ETHERNET).accepts_nothing, text
        assert not table_verdicts(compile_filter(text), table).any()


def test_valid_expressions_are_taken(shared: Path) -> None:
    ethernet = [(ETHERNET, text) for (text, *_) in _lines_of_shared(shared)]
    others = [(int(link_type), text) for _, link_type, text in _rows(shared, "shared_dlt.tsv")[1:]]
    for link_type, text in [*ethernet, *others]:
        assert not compile_filter(text).for_link_type(link_type).accepts_nothing, (link_type, text)


def _lines_of_shared(shared: Path) -> Iterator[tuple[str]]:
    for line in (shared / "expressions" / "shared.txt").read_text(encoding="utf-8").splitlines():
        yield (line,)


# Against libpcap, for every link type


def _expressions(random: Random, texts: list[str]) -> list[tuple[int, str]]:
    """Right and wrong ones, for link types that libpcap tells apart."""
    link_types = sorted(LINK_TYPES)
    return [
        (link_type, text)
        for link_type in random.choices(link_types, k=len(texts) // 2)
        for text in (expression(random, link_type), sound(random), *random.sample(texts, 2))
    ]


def _disagreement(text: str, link_type: int) -> tuple[str | None, str | None] | None:
    """The two refusals (None: taken) if one of us takes the expression and the other does not, or for other reasons.

    libpcap makes code as it reads, so it finds what means nothing on a link type before what is wrong behind that.
    """
    expected = _libpcap_refusal(text, link_type)
    try:
        parse(text)
    except FilterError as error:
        return (error.reason, None) if expected is None else None
    refusal = _refusal(text, link_type)
    reason = refusal.reason if refusal else None
    return None if reason == expected else (reason, expected)


@needs_libpcap
@pytest.mark.parametrize("rounds", [1, pytest.param(40, marks=pytest.mark.long)])
def test_libpcap_refuses_the_same(shared: Path, rounds: int) -> None:
    valid = [line for (line,) in _lines_of_shared(shared)]
    valid += [text for _, _, text in _rows(shared, "shared_dlt.tsv")[1:]]
    random = Random(rounds)
    tried = 0
    differing = []
    for _ in range(rounds):
        texts = [*valid, *without_names([mutated(random, valid) for _ in valid])]
        for link_type, text in _expressions(random, texts):
            if (reasons := _disagreement(text, link_type)) is not None:
                differing.append((link_type, text, *reasons))
            tried += 1
    assert differing == []
    assert tried > 2_000 * rounds


OPENBSD_RAW = 14
"""Raw IP of OpenBSD, which libpcap knows on OpenBSD alone, and we everywhere."""

_ONE_OF_EACH = (
    *("ip", "len > 5", "link[0] = 1", "tcp port 80", "inbound", "ifindex 2", "llc", "vlan", "mpls", "geneve"),
    *(
        "ether host 1:2:3:4:5:6",
        "ether host $1a",
        "host ::1",
        "arp",
        "iso",
        "type mgt",
        "radio[0] = 1",
        "vpi 1",
    ),
    *("ip broadcast", "ether broadcast", "ip protochain 6", "icmp6[0] = 1", "ifname x", "opc 1"),
)


@needs_libpcap
def test_libpcap_knows_the_same_link_types() -> None:
    """Of the many that have no filters of their own, libpcap's messages have other names."""
    differing = [
        (link_type, text)
        for link_type in (*range(300), 1_000, 65_535)
        for text in _ONE_OF_EACH
        if (_refusal(text, link_type) is None) != (_libpcap_refusal(text, link_type) is None)
    ]
    assert {link_type for link_type, _ in differing} == {OPENBSD_RAW}


# Bounds

HOSTS = 2_000


def _hosts(text: str, join: str) -> str:
    return join.join(text.format(f"10.0.{number >> 8}.{number & 255}") for number in range(HOSTS))


BOUNDS = {
    "100 000 parentheses": "(" * 100_000 + "tcp" + ")" * 100_000,
    "100 000 open parentheses": "(" * 100_000,
    "100 000 not": "not " * 100_000 + "tcp",
    "100 000 !": "!" * 100_000 + "tcp",
    "2 000 hosts or": _hosts("host {}", " or "),
    "2 000 hosts in a list": f"host ({_hosts('{}', ' or ')})",
    "2 000 hosts excluded": _hosts("not host {}", " and "),
    "2 000 ports": f"tcp port ({' or '.join(str(number) for number in range(2_000))})",
    "9 000 parentheses and terms": "(tcp and " * 9_000 + "udp" + ")" * 9_000,
    "10 000 sums": f"ip[0]{' + 1' * 10_000} = 3",
    "a number of 100 000 digits": f"len > {'9' * 100_000}",
    "a name of 100 000 letters": f"port {'x' * 100_000}",
    "3 000 not and parentheses": "not (" * 3_000 + "tcp" + ")" * 3_000,
}
REFUSED = {
    "100 000 parentheses": "can't parse filter expression: memory exhausted",
    "100 000 open parentheses": "can't parse filter expression: memory exhausted",
    "a number of 100 000 digits": f"number {'9' * 100_000} overflows 32 bits",
    "a name of 100 000 letters": f"unknown port '{'x' * 100_000}'",
}
_MOST_SECONDS = 5
"""Of the processor: far more than any of them needs, for slow machines."""


def _timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Long and deep expressions are compiled and run at once, or refused."""
    table = _sample()
    filters: list[Filter] = []
    refusal = None
    seconds: dict[str, float] = {}
    try:
        seconds["read"] = _timed(lambda: filters.append(compile_filter(BOUNDS[name])))
        seconds["compiled"] = _timed(lambda: filters[0].for_link_type(ETHERNET))
        seconds["run first"] = _timed(lambda: table_verdicts(filters[0], table))
        seconds["run again"] = _timed(lambda: table_verdicts(filters[0], table))
    except FilterError as error:
        refusal = error.reason
        seconds["refused"] = _timed(lambda: _refusal(BOUNDS[name]))
    with capsys.disabled():
        print(f"\n{name}: {', '.join(f'{what} in {took:.2f} s' for what, took in seconds.items())}", end="")
    assert refusal == REFUSED.get(name)
    assert sum(seconds.values()) < _MOST_SECONDS


@needs_libpcap
@pytest.mark.parametrize(
    "text",
    [
        f"host ({' or '.join(f'192.0.2.{number}' for number in range(256))})",
        f"tcp port ({' or '.join(str(number) for number in range(0, 3_000, 20))} or 443)",
        " or ".join(f"src net 198.51.{number}.0/24 or udp port {number}" for number in range(100)),
        " and ".join(f"not ether src 2:0:0:0:0:{number:x}" for number in range(17, 217)),
        "not (" * 501 + "tcp" + ")" * 501,
        "(tcp and " * 200 + "port 80" + ")" * 200,
    ],
    ids=range(6),
)
def test_long_expressions_say_what_short_ones_do(text: str) -> None:
    """By libpcap, which takes long for longer ones."""
    table = _sample()
    code = libpcap.compile(text)
    packets = table.select(pl.col("header") + pl.col("rest"), "filter_len", "frame_len").rows()
    expected = [code.matches(octets[:limit], length) for octets, limit, length in packets]
    assert any(expected)
    assert table_verdicts(compile_filter(text), table).to_list() == expected


@pytest.mark.parametrize("link_type", [105, 127])
@pytest.mark.parametrize("term", ["tcp[{}] = 1", "ip[{}:2] & 3 != 0", "port {}", "ether src 2:0:0:0:0:{}"])
def test_terms_do_not_multiply(link_type: int, term: str) -> None:
    """On 802.11 places depend on registers, which each term sets anew."""
    one = compile_filter(term.format(0)).for_link_type(link_type)
    many = compile_filter(" or ".join(term.format(number) for number in range(90))).for_link_type(link_type)
    assert len(many.program.tests) <= 90 * len(one.program.tests)
