"""Programs that are generated from filter expressions, against the code that libpcap generates: jump by jump."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from random import Random

import pytest

from pcap2arrow.errors import FilterError, LimitError
from queries.filters import program as programs
from queries.filters.generate import generate
from queries.filters.generate.link_types import LINK_TYPES
from queries.filters.language.names import Names
from queries.filters.language.parser import parse
from queries.filters.language.words import PROTOCOLS
from queries.filters.program import (
    ACCEPT,
    REJECT,
    Arithmetic,
    ChainEnd,
    Constant,
    Load,
    Program,
    WireLength,
)
from queries.filters.uncollected import uncollected
from tests.expressions import case_lines, case_rows
from tests.filter_frames import by_link_type
from tests.grammar import expression
from tests.oracles import libpcap
from tests.oracles.interpreter import EndlessError, RejectedError, accepts, value
from tests.oracles.symbolic import difference

needs_libpcap = pytest.mark.skipif(bool(libpcap.missing()), reason=str(libpcap.missing()))

ETHERNET, RAW, NULL, RADIOTAP = 1, 12, 0, 127
_BY_FRAMES_ALONE = ("geneve", "protochain", "byte")


def program(text: str, link_type: int = ETHERNET, *, swapped: bool = False) -> Program:
    return generate(parse(text), link_type=link_type, names=Names.customary(), swapped=swapped)


def _compared(text: str, link_type: int, *, swapped: bool = False) -> str | None:
    """What differs between our program and libpcap's code, or between the reasons of both to refuse."""
    code = own = refusal = reason = None
    try:
        code = libpcap.compile(text, dlt=link_type, swapped=swapped)
    except libpcap.RefusedError as error:
        refusal = str(error)
    try:
        own = program(text, link_type, swapped=swapped)
    except FilterError as error:
        reason = error.reason
    if code is None or own is None or refusal != reason:
        return None if refusal == reason else f"{reason}, libpcap: {refusal}"
    if any(word in text for word in _BY_FRAMES_ALONE):
        return None
    return difference(code.instructions, own, LINK_TYPES[link_type])


def _differing(texts: Sequence[str], link_type: int) -> list[tuple[str, str]]:
    found = ((text, _compared(text, link_type)) for text in texts)
    return [(text, what) for text, what in found if what is not None]


# Terms

_PROTOCOLS = tuple(dict.fromkeys(PROTOCOLS.values()))
_DIRECTIONS = ("src", "dst", "src or dst", "src and dst", "addr1", "addr2", "addr3", "addr4", "ra", "ta")
_IPV4 = (
    "10.0.0.1",
    "10.1",
    "10.0.0.0/8",
    "10.0.0.1/8",
    "10.0.0.0/33",
    "10.0.0.0 mask 255.0.0.0",
    "1.2.3.256",
)
_IPV6 = ("::1", "fe80::/10", "fe80::1/10", "::/129", "2001:db8::/0")
_NUMBERS = ("0", "5", "300", "70000", "4294967295")
_OTHERS = ("1:2:3:4:5:6", "$1a")
_IDENTIFIERS = (*_IPV4, *_IPV6, *_NUMBERS, *_OTHERS)
_NAMES = {  # none of hosts: libpcap would ask a name server
    "net": ("loopback", "link-local", "default"),
    "port": ("http", "domain", "bootps", "ssh", "\\80", "5-1", "nosuch"),
    "portrange": ("5-1", "1-70000", "ftp-http", "1-http", "nosuch-5"),
    "proto": ("\\tcp", "\\ip", "\\arp", "\\stp", "\\isis", "ospf", "nosuch"),
    "gateway": ("nosuch",),
}
_KINDS = ("host", "net", "port", "portrange", "proto", "protochain", "gateway")
_RELATIONS = (
    "{0}[0] = 1",
    "{0}[1:2] > 5",
    "{0}[2:4] != 5",
    "{0}[0:3] = 1",
    "{0}[-1:2] <= 7",
    "{0}[len - 4:4] < {0}[0]",
    "{0}[{0}[1] & 7:2] >= {0}[{0}[0]] * 2",
    "len / {0}[0] = 1",
    "2 ^ {0}[ip[0]] = 3",
)
_FIELDS = ("vpi", "vci", "sio", "opc", "dpc", "sls", "hsio", "hopc", "hdpc", "hsls")
_CONDITIONS = tuple(case_lines("conditions.txt"))


def _terms() -> Iterator[str]:
    """Terms without and, or and not: every protocol with everything that may follow it, sound or not."""
    yield from _PROTOCOLS
    for protocol in ("", *_PROTOCOLS):
        for kind in _KINDS:
            for identifier in (*_IDENTIFIERS, *_NAMES.get(kind, ())):
                yield f"{protocol} {kind} {identifier}".strip()
        yield from (relation.format(protocol) for relation in _RELATIONS if protocol)
        yield from (f"{protocol} {word}".strip() for word in ("broadcast", "multicast"))
    for protocol, direction, kind in itertools.product(
        ("", "ip", "ip6", "link", "arp", "decnet", "tcp"), _DIRECTIONS, ("host", "net", "port", "portrange")
    ):
        for identifier in _IDENTIFIERS:
            yield f"{protocol} {direction} {kind} {identifier}".strip()
    for field, values in itertools.product(
        _FIELDS, ("5", "> 5", "<= 5", "!= 5", "(5 or 6)", "20000", ">= 300")
    ):
        yield f"{field} {values}"
    yield from _CONDITIONS


TERMS = tuple(_terms())


@needs_libpcap
@pytest.mark.parametrize("count", [100, pytest.param(len(TERMS), marks=pytest.mark.long)])
def test_terms_on_all_link_types(count: int) -> None:
    random = Random(1)
    for link_type in LINK_TYPES:
        assert _differing(random.sample(TERMS, count), link_type) == [], link_type


@needs_libpcap
@pytest.mark.parametrize("link_type", [ETHERNET, 113, RADIOTAP])
def test_conditions_on_usual_link_types(link_type: int) -> None:
    assert _differing(_CONDITIONS, link_type) == []


@needs_libpcap
@pytest.mark.parametrize("count", [100, pytest.param(len(TERMS), marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("before", "link_type"),
    [
        ("vlan", ETHERNET),
        ("vlan", 105),
        ("mpls 5", ETHERNET),
        ("mpls", 104),
        ("mpls and mpls", 9),
        ("pppoes 5", ETHERNET),
        ("pppoes", RADIOTAP),
        ("vlan and vlan 6 and pppoes", ETHERNET),
        ("pppoes and mpls", ETHERNET),
        ("vlan and mpls", 240),
        ("lane", 123),
        ("lane and vlan", 123),
        ("lane and llc", 123),
        ("len > 20", RADIOTAP),
    ],
)
def test_terms_after_others_that_move_headers(before: str, link_type: int, count: int) -> None:
    terms = Random(2).sample(TERMS, count)
    assert _differing([f"{before} and {term}" for term in terms], link_type) == []


@needs_libpcap
@pytest.mark.parametrize(("seed", "count"), [(1, 1_500), pytest.param(2, 30_000, marks=pytest.mark.long)])
def test_random_expressions(seed: int, count: int) -> None:
    random = Random(seed)
    others = sorted(LINK_TYPES)
    for _ in range(count):
        link_type = ETHERNET if random.random() < 0.5 else random.choice(others)
        assert _differing([expression(random, link_type)], link_type) == [], link_type


@needs_libpcap
def test_shared_expressions(shared: Path) -> None:
    folder = shared / "expressions"
    assert _differing((folder / "shared.txt").read_text().splitlines(), ETHERNET) == []
    for line in (folder / "shared_dlt.tsv").read_text().splitlines()[1:]:
        _, link_type, text = line.split("\t")
        kind = {100: 11, 101: RAW}.get(int(link_type), int(link_type))
        assert _differing([text], kind) == []


@needs_libpcap
@pytest.mark.parametrize("link_type", [NULL, 109, 108])
def test_byte_order_of_address_families(link_type: int) -> None:
    for text, swapped in itertools.product(("ip", "ip6", "arp", "tcp port 80"), (False, True)):
        assert _compared(text, link_type, swapped=swapped) is None


@needs_libpcap
def test_savefiles_that_libpcap_does_not_know() -> None:
    for number, text in itertools.product((2, 5, 49, 98, 290, 65535), ("", "len > 5", "ip")):
        with pytest.raises(libpcap.RefusedError) as theirs:
            libpcap.compile(text, dlt=number)
        with pytest.raises(FilterError) as ours:
            program(text, number)
        assert ours.value.reason == str(theirs.value)


# What frames alone can tell: places that are found on the way, and loops

_WHOLE, _CUT = 200, 400


@needs_libpcap
@pytest.mark.parametrize("link_type", sorted({int(link_type) for link_type, _ in case_rows("on_frames.tsv")}))
def test_verdicts_on_frames(link_type: int) -> None:
    random = Random(link_type)
    frames = by_link_type(random)[101 if link_type == RAW else link_type]
    for _, text in (row for row in case_rows("on_frames.tsv") if int(row[0]) == link_type):
        code, own = libpcap.compile(text, dlt=link_type), program(text, link_type)
        chosen = random.choices(frames, k=_WHOLE)
        chosen += [frame[: random.randrange(len(frame) + 1)] for frame in random.choices(frames, k=_CUT)]
        ending = [frame for frame in chosen if _ends(own, frame)]
        accepted = [frame.hex() for frame in ending if accepts(own, frame, len(frame))]
        assert accepted == [frame.hex() for frame in ending if code.matches(frame)], text


def _ends(own: Program, frame: bytes) -> bool:
    """Whether libpcap's code ends: protocol chains may lead back."""
    chains = [test.left for test in own.tests if isinstance(test.left, ChainEnd)]
    for chain in chains:
        with contextlib.suppress(RejectedError):
            try:
                value(chain, frame, len(frame))
            except EndlessError:
                return False
    return True


# What programs look like


def test_nothing_accepts_everything() -> None:
    assert program("") == Program(ETHERNET, ())
    assert program(" \n", 2**16 - 2**16) == Program(NULL, ())


def test_comparisons_are_in_textual_order() -> None:
    has_type, is_tcp = Load(12, 2), Load(23, 1)
    assert program("not (ip proto 6 and less 60)") == Program(
        ETHERNET,
        (
            programs.Test(has_type, "=", Constant(0x0800), 1, ACCEPT),
            programs.Test(is_tcp, "=", Constant(6), 2, ACCEPT),
            programs.Test(WireLength(), ">", Constant(60), ACCEPT, REJECT),
        ),
    )


def test_lengths_of_headers_are_loaded_before() -> None:
    assert program("type mgt", RADIOTAP).before == (
        Arithmetic("|", Load(2, 1), Arithmetic("<<", Load(3, 1), Constant(8))),
    )
    assert program("radio[0] = 0", RADIOTAP).before == ()
    assert len(program("ip", RADIOTAP).before) == 2
    assert len(program("ip", 105).before) == 1


def test_arithmetic_overwrites_the_length_of_a_header() -> None:
    """libpcap keeps it in a register that arithmetic before has used; so does tcpdump -r see octet 40 here."""
    own = program("len > 40 and type mgt", RADIOTAP)
    assert own.tests[1].left == Arithmetic("&", Load(40, 1), Constant(0x0C))
    assert program("type mgt and len > 40", RADIOTAP).tests[0].left == Arithmetic(
        "&", Load(0, 1, own.before[0]), Constant(0x0C)
    )


# Refusals


def test_refused_terms_are_shown() -> None:
    for link_type, marked, reason in case_rows("refused_terms.tsv"):
        text = marked.replace("«", "").replace("»", "")
        with pytest.raises(FilterError) as refused:
            program(text, int(link_type))
        assert (refused.value.reason, refused.value.span) == (
            reason,
            (marked.index("«"), marked.index("»") - 1),
        ), text


@needs_libpcap
def test_refusals_are_those_of_libpcap() -> None:
    for link_type, marked, reason in case_rows("refused_terms.tsv"):
        with pytest.raises(libpcap.RefusedError) as refused:
            libpcap.compile(marked.replace("«", "").replace("»", ""), dlt=int(link_type))
        assert str(refused.value) == reason


@needs_libpcap
def test_shared_invalid_expressions(shared: Path) -> None:
    for line in (shared / "expressions" / "invalid.tsv").read_text().splitlines():
        text, reason = line.split("\t")
        with pytest.raises(FilterError) as refused:
            program(text)
        assert refused.value.reason == reason


def test_unknown_netmask_has_no_broadcast() -> None:
    with pytest.raises(FilterError, match="netmask not known"):
        generate(parse("ip broadcast"), link_type=ETHERNET, names=Names.empty(), netmask=2**32 - 1)
    own = generate(parse("ip broadcast"), link_type=ETHERNET, names=Names.empty(), netmask=0xFFFFFF00)
    assert own.tests[1:] == (
        programs.Test(Arithmetic("&", Load(30, 4), Constant(0xFF)), "=", Constant(0), ACCEPT, 2),
        programs.Test(Arithmetic("&", Load(30, 4), Constant(0xFF)), "=", Constant(0xFF), ACCEPT, REJECT),
    )


def test_hosts_by_name() -> None:
    addresses = (ip_address("10.0.0.1"), ip_address("::1"))
    names = Names({"router": addresses}, {}, {"router": 0x001122334455})

    def named(text: str, link_type: int = ETHERNET) -> Program:
        return generate(parse(text), link_type=link_type, names=names)

    assert named("host router") == program("host 10.0.0.1 or host ::1")
    assert named("ip6 src Router") == program("ip6 src ::1")
    assert named("arp host router") == program("arp host 10.0.0.1")
    assert named("host router", RAW) == program("ip host 10.0.0.1 or ip6 host ::1", RAW)
    assert named("link dst router") == program("link dst 00:11:22:33:44:55")
    assert named("host \\10.1") == program("host 10.0.0.1")
    for text, reason in (
        ("host other", "unknown host 'other'"),
        ("link host other", "unknown ether host 'other'"),
        ("tcp host router", "'tcp' modifier applied to host"),
    ):
        with pytest.raises(FilterError) as refused:
            named(text)
        assert refused.value.reason == reason


# Length and depth


def _seconds(text: str, link_type: int = ETHERNET) -> float:
    term = parse(text)
    start = time.process_time()
    with uncollected():
        generate(term, link_type=link_type, names=Names.empty())
    return time.process_time() - start


def _hosts(count: int) -> str:
    return " or ".join(f"host 10.0.{number >> 8}.{number & 255}" for number in range(count))


def test_time_is_linear() -> None:
    short, long = (min(_seconds(_hosts(count)) for _ in range(3)) for count in (1_000, 4_000))
    assert short < 5
    assert long < short * 12


@pytest.mark.parametrize(
    ("text", "tests"),
    [
        ("not (" * 3_000 + "tcp" + ")" * 3_000, 6),
        ("tcp or (udp and (" * 1_500 + "icmp" + "))" * 1_500, 12 * 1_500 + 2),
        (" and ".join(["len > 5"] * 10_000), 10_000),
        (" + ".join(["len"] * 5_000) + " > 5", 1),
        ("ip[" * 2_000 + "0" + "]" * 2_000 + " = 1", 2_001),
        ("geneve and (" + _hosts(200) + ")", 2 * 12 * 200 + 13),
    ],
    ids=["not", "nested", "long", "sum", "index", "tunnel"],
)
def test_long_and_deep_expressions(text: str, tests: int) -> None:
    own = program(text)
    assert len(own.tests) == tests
    assert all(
        following < 0 or place < following < tests
        for place, test in enumerate(own.tests)
        for following in (test.if_true, test.if_false)
    )


def test_too_many_ways_through_tunnels() -> None:
    tunnels = " or ".join(["(geneve and ip)"] * 5)
    with pytest.raises(LimitError, match="too many ways"):
        program(f"({tunnels}) and ({_hosts(2_000)})")
