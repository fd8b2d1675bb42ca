"""What ``pcap2arrow explain`` tells of filters."""

from __future__ import annotations

import json
import re
import time

import pytest

import pcap2arrow
from pcap2arrow.errors import FilterError
from queries.filters.compiled import compile_filter
from queries.filters.explain import Explanation, explain
from queries.filters.listing import listing
from tests.commands import SAMPLE, run
from tests.expressions import case_rows
from tests.oracles import libpcap

ETHERNET, RADIOTAP = 1, 127
needs_libpcap = pytest.mark.skipif(libpcap.missing() is not None, reason=libpcap.missing() or "")


def _explained(text: str, link_type: int = ETHERNET) -> Explanation:
    return explain(compile_filter(text), link_type)


# Traps


@pytest.mark.parametrize(("text", "expected"), case_rows("traps.tsv"))
def test_traps(text: str, expected: str) -> None:
    found = [f"{trap.kind}: {text[slice(*trap.span)]}" for trap in _explained(text).traps]
    assert found == [each for each in expected.split("; ") if each]


def test_a_trap_says_what_it_is_about() -> None:
    (shift, _) = _explained("vlan 5 or udp port 53").traps
    assert shift.message == (
        "'udp port 53' reads 4 octets further because of the earlier 'vlan', for packets without it too: "
        "put 'vlan' last, as in 'A or (vlan and A)'"
    )
    (short,) = _explained("ether[100] = 1 or tcp").traps
    assert "a packet too short for ether[…] is rejected at once" in short.message


# Terms


def test_terms_are_a_tree_with_all_qualifiers() -> None:
    lines = _explained("tcp dst port 80 or 81 and not (src net 10 or host 10.0.0.1)").terms
    assert [(line.depth, line.text) for line in lines] == [
        (0, "and"),
        (1, "or"),
        (2, "tcp dst port 80"),
        (2, "tcp dst port 81"),
        (1, "not"),
        (2, "or"),
        (3, "src net 10"),
        (3, "host 10.0.0.1"),
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("10 % 4 + len = 0", "10 % (4 + len) = 0"),
        ("tcp[((tcp[12:1]&0xf0)>>2):4]=0x47455420", "tcp[(tcp[12] & 240) >> 2:4] = 1195725856"),
        ("1+2*3 - 4 > -1", "(1 + (2 * 3)) - 4 > -1"),
        ("wlan   addr1 1:2:3:4:5:6", "wlan addr1 1:2:3:4:5:6"),
        ("net 10.0.0.0 mask 255.0.0.0", "net 10.0.0.0 mask 255.0.0.0"),
    ],
)
def test_arithmetic_shows_how_it_binds(text: str, shown: str) -> None:
    assert _explained(text, RADIOTAP).terms[0].text == shown


# What is read

READ = [
    ("", "all", (), "none", ()),
    ("ip and ip6", "none", (), "none", ()),
    ("arp", "some", ("eth_type",), "irregular", ("network_type",)),
    ("len > 100", "some", ("frame_len",), "irregular", ()),
    ("ip[100] = 1", "some", ("eth_type",), "unknown", ("network_type",)),
    ("ether[100] = 1", "some", (), "all", ()),
]


@pytest.mark.parametrize(("text", "accepts", "columns", "octets", "pruned_by"), READ)
def test_what_is_read(
    text: str, accepts: str, columns: tuple[str, ...], octets: str, pruned_by: tuple[str, ...]
) -> None:
    found = _explained(text)
    assert (found.accepts, found.columns, found.octets, found.pruned_by) == (
        accepts,
        columns,
        octets,
        pruned_by,
    )


def test_ports_are_answered_by_columns_and_files_by_the_protocol() -> None:
    found = _explained("udp port 53")
    assert {"src_port", "dst_port", "ip_proto"} <= set(found.columns)
    assert (found.octets, found.pruned_by) == ("irregular", ("network_type", "l4_proto"))
    assert _explained("udp port 53", link_type=101).octets == "all"


def test_what_is_wrong_for_a_link_type_alone_still_has_terms() -> None:
    found = _explained("ip or ether host 1:2:3:4:5:6", link_type=113)
    assert isinstance(found.error, FilterError)
    assert [line.text for line in found.terms] == ["or", "ip", "ether host 1:2:3:4:5:6"]
    assert (found.tests, found.traps) == ((), ())


# Listings


class _Frame:
    """Loads of a frame as listings write them."""

    def __init__(self, octets: bytes, size: int) -> None:
        self._octets, self._size = octets, size

    def __getitem__(self, at: int) -> int:
        if at + self._size > len(self._octets):
            raise IndexError(at)
        return int.from_bytes(self._octets[at : at + self._size], "big")


_LINE = re.compile(r"\((\d+)\) (.*\S) +\? (\w+) : (\w+)")


def _follows(lines: list[str], frame: bytes, wire_length: int) -> bool:
    """What a listing says of a frame, read by somebody who knows arithmetic alone."""
    names = {f"u{8 * size}": _Frame(frame, size) for size in (1, 2, 4)} | {"len": wire_length}
    place = "0"
    while place.isdecimal():
        match = _LINE.fullmatch(lines[int(place)])
        assert match is not None and int(match[1]) == int(place)
        try:
            holds = eval(re.sub(r"(?<![<>])=", "==", match[2]), {}, names)
        except IndexError:
            return False
        place = match[3] if holds else match[4]
    return place == "accept"


@needs_libpcap
@pytest.mark.parametrize(
    "text",
    [
        *("tcp port 80", "not udp", "ip6 or arp", "len > 100 and ip[2:2] + 14 >= 60", "ip broadcast or vlan"),
        *("tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420", "ip[ip[0] & 0xf * 4] > 5", "net 192.0.2.0/24"),
        *("(ip[8] ^ 3) * 2 | 1 > 9", "ether[12:2] << 1 > 4096", "ether[60] = 0 or tcp", "host 2001:db8::10"),
    ],
)
def test_listings_mean_what_libpcap_means(text: str) -> None:
    oracle = libpcap.compile(text)
    lines = listing(compile_filter(text).for_link_type(ETHERNET).program)
    packets = pcap2arrow.scan(SAMPLE).select("header", "rest", "frame_len").collect().rows()
    for header, rest, frame_len in packets:
        for frame in (header + rest, (header + rest)[:30]):
            assert _follows(lines, frame, frame_len) == oracle.matches(frame, frame_len)


def test_listings_name_what_is_loaded_first() -> None:
    lines = listing(compile_filter("ip").for_link_type(RADIOTAP).program)
    assert lines[0] == "first u8[2] | u8[3] << 8"
    assert listing(compile_filter("").for_link_type(ETHERNET).program) == ["(000) accept"]
    assert "protochain4[" in listing(compile_filter("ip protochain 6").for_link_type(ETHERNET).program)[1]


# Long ones


@pytest.mark.parametrize(
    "text",
    [
        " or ".join(f"host 10.0.{n // 256}.{n % 256}" for n in range(2000)),
        "1" + " + 1" * 20_000 + " = 7",
        "ip" + " and tcp or udp" * 3000,
        "ip" + " or (vlan and ip)" * 300,
    ],
    ids=["hosts", "sum", "alternating", "shifts"],
)
def test_long_expressions_are_explained_at_once(text: str) -> None:
    begin = time.process_time()
    assert _explained(text).terms
    assert time.process_time() - begin < 10


# The command line


def test_the_command_prints_all_of_it() -> None:
    lines = run("explain", "vlan", "or", "udp", "port", "53").stdout.splitlines()
    assert lines[:5] == ["link type: EN10MB (Ethernet)", "terms:", "  or", "    vlan", "    udp port 53"]
    assert "  (000) u16[12] = 0x8100         ? accept : 001" in lines
    assert "octets read: those of packets of which the columns do not tell" in lines
    assert lines[-3] == "traps:"


def test_the_command_writes_json() -> None:
    found = json.loads(run("explain", "ip and tcp[13] = 2", "--json", "--link-type", "RAW").stdout)
    assert found["link_type"] == 12 and found["error"] is None and found["accepts"] == "some"
    assert found["terms"][1] == {"depth": 1, "text": "ip", "span": [0, 2]}
    assert found["tests"][0] == "(000) u8[0] & 0xf0 = 0x40      ? 001 : reject"
    assert (found["columns"], found["octets"], found["pruned_by"]) == ([], "all", [])
    assert [trap["kind"] for trap in found["traps"]] == ["ipv4-only"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("tcp prt 80",), "can't parse filter expression: syntax error"),
        (("ifindex 5",), "ifindex not supported on Ethernet"),
        (("tcp", "--link-type", "NOTHING"), "invalid data link type NOTHING"),
    ],
)
def test_wrong_expressions_end_with_2(words: tuple[str, ...], reason: str) -> None:
    assert reason.split()[0] in run("explain", *words, code=2).stderr


def test_json_tells_what_is_wrong() -> None:
    found = json.loads(run("explain", "tcp prt 80", "--json", code=2).stdout)
    assert found["error"]["reason"] == "can't parse filter expression: syntax error"
    assert found["error"]["span"] == [4, 7]
    assert "tests" not in found
