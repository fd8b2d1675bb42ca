"""Connections: those of tshark, and what the table says of them."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from pathlib import Path

import polars as pl
import pytest
from distributed import LocalCluster

import pcap2arrow
from jobs.flows.api import flows
from jobs.streams.api import Sizes
from queries.filters.compiled import compile_filter
from queries.flows.community import community_id, community_ids
from queries.flows.packets import COUNTERPARTS
from tests import tcp
from tests.commands import SAMPLE, json_lines, run
from tests.conftest import CorpusCapture
from tests.test_streams_tcpflow import random_frames

Tool = Callable[[str], str]

DECODED = frozenset({0, 1, 9, 12, 14, 101, 104, 113, 228, 229, 276})
_NO_FRAGMENTS = ("-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE")
OTHER_HEADERS = {"teredo", "vxlan", "gtp", "cfp", "geneve", "macsec", "ieee8021ah", "nsh"}
"""Tunnels that tshark counts by their inner headers, and link headers that are not decoded here."""

_OWN_CONVERSATIONS = ("vnc", "hart_ip", "snmp")
"""Protocols for which tshark 4.0 opens a conversation of its own in the midst of a connection."""

_OFFLOADED = ("-o", "ipv6.tso_support:TRUE")
"""A length of 0 in an IPv6 header means up to the end, as it does in one of IPv4."""

_OUTERMOST = [word for protocol in _OWN_CONVERSATIONS for word in ("--disable-protocol", protocol)]
_FIELDS = (
    "frame.protocols",
    "tcp.stream",
    "tcp.bogus_header_length",
    "ip.opt.type",
    "ipv6.routing.type",
    "frame.len",
    "_ws.malformed",
    "_ws.short",
)
_STATISTICS = ("-z", "conv,tcp", "-z", "conv,udp")
_CUT_HEADERS = ("[Malformed Packet: TCP]", "[Packet size limited during capture: TCP truncated]")
_LONGEST = "2147483647"
_LINE = re.compile(r"(\S+):(\d+)\s+<-> (\S+):(\d+)\s+(\d+) (\d+ \w+)\s+(\d+) (\d+ \w+) ")
_SOURCE_ROUTES = {"131", "137"}

EXCEPTIONS = {
    "PcapPlusPlus/Packet++Test/PacketExamples/NullLoopback.pcap": "BSD loopback, 0x0008000f for a family",
    "PcapPlusPlus/Pcap++Test/PcapExamples/null_loopback.pcap": "the same frame",
    "suricata-verify/firewall/tcp-session-decode-malformed-ipv4/input.pcap": "a bad IP option stops tshark",
}
"""Captures that differ from tshark, and why."""


def _conversations(tshark: str, capture: Path, *words: str) -> tuple[dict[str, Counter[object]], int] | None:
    """What tshark says of TCP and UDP, and how many TCP streams with a sound header there are.

    None of captures in which other headers than the outermost count for tshark, or the addresses of source routes
    instead of those in the IP header, or whose frames are longer than it can say.
    """
    fields = ("-T", "fields", *(word for name in _FIELDS for word in ("-e", name)))
    command = [tshark, "-r", str(capture), *words, *_OFFLOADED, *_OUTERMOST, *fields, *_STATISTICS]
    packets, *statistics = subprocess.run(command, capture_output=True, text=True).stdout.split("=" * 80)
    streams = set()
    for line in packets.splitlines():
        protocols, stream, bogus, options, routing, length, *cut = line.split("\t")
        names = protocols.split(":")
        if (
            sum(name in ("ip", "ipv6") for name in names) > 1
            or OTHER_HEADERS & set(names)
            or length == _LONGEST
        ):
            return None
        if routing or _SOURCE_ROUTES & set(options.split(",")):
            return None
        if stream and not bogus and not any(text in word for text in _CUT_HEADERS for word in cut):
            streams.add(stream)
    found: dict[str, Counter[object]] = {"tcp": Counter(), "udp": Counter()}
    for part in statistics:
        protocol = "tcp" if "TCP Conversations" in part else "udp"
        for a, a_port, b, b_port, to_a, size_to_a, to_b, size_to_b in _LINE.findall(part):
            ends = ((a, a_port, to_b, size_to_b), (b, b_port, to_a, size_to_a))
            found[protocol][
                _ends((ip_address(host), int(port), int(n), size) for host, port, n, size in ends)
            ] += 1
    return found, len(streams)


def _ends(ends: Iterable[object]) -> object:
    return frozenset(Counter(ends).items())


def _size(octets: int) -> str:
    """A number of octets as tshark prints it."""
    for unit in ("bytes", "kB", "MB"):
        if octets < 10_000:
            return f"{octets} {unit}"
        octets //= 1000
    return f"{octets} GB"


def _ours(table: pl.DataFrame, protocol: str) -> Counter[object]:
    found: Counter[object] = Counter()
    for row in table.filter(pl.col("proto") == protocol).iter_rows(named=True):
        ends = (
            (ip_address(row[f"id_{side}_h"]), row[f"id_{side}_p"], packets, _size(row[f"{side}_frame_bytes"]))
            for side in ("orig", "resp")
            for packets in [row[f"{side}_pkts"]]
        )
        found[_ends(ends)] += 1
    return found


def _compare(captures: list[CorpusCapture], tshark: str, least: int, *, defrag: bool = True) -> None:
    compared, left_out, different = 0, 0, {}
    words = () if defrag else _NO_FRAGMENTS
    for capture in captures:
        theirs = None if capture.name in EXCEPTIONS else _conversations(tshark, capture.path, *words)
        if theirs is None:
            left_out += 1
            continue
        table = flows([capture.path], defrag=defrag).connections
        wrong = [name for name in ("tcp", "udp") if _ours(table, name) != theirs[0][name]]
        if wrong or len(table.filter(pl.col("proto") == "tcp")) != theirs[1]:
            different[capture.name] = wrong
        compared += 1
    print(f"\n{compared} captures; {left_out} left out; different: {different or 'none'}")
    assert not different
    assert compared >= least


def _with_flows(manifest: list[CorpusCapture], *, longest: int = 20_000) -> list[CorpusCapture]:
    return [
        capture
        for capture in manifest
        if capture.sound and capture.link_types <= DECODED and 0 < capture.packets < longest
    ]  # fmt: skip


def test_a_sample_of_conversations(manifest: list[CorpusCapture], tool: Tool) -> None:
    _compare(_with_flows(manifest, longest=2_000)[3::150], tool("tshark"), 5)


def test_a_sample_of_fragments(manifest: list[CorpusCapture], tool: Tool) -> None:
    fragmented = [capture for capture in _with_flows(manifest, longest=2_000) if "frag" in capture.name]
    _compare(fragmented[::6], tool("tshark"), 5)


@pytest.mark.long
def test_conversations(manifest: list[CorpusCapture], tool: Tool) -> None:
    _compare(_with_flows(manifest), tool("tshark"), 1_500)


@pytest.mark.long
def test_conversations_without_defragmentation(manifest: list[CorpusCapture], tool: Tool) -> None:
    _compare(_with_flows(manifest)[::4], tool("tshark"), 300, defrag=False)


def _table(words: str, folder: Path) -> pl.DataFrame:
    tcp.write(folder / "case.pcap", [segment.frame() for segment in tcp.segments(words)])
    return flows([folder / "case.pcap"]).connections


STATES = """
S0      S:@9
S1      S:@9 SA:@99< A:@10
SF      S:@9 SA:@99< A:@10 F:@10 F:@100<
REJ     S:@9 RA:@0<
S2      S:@9 SA:@99< A:@10 F:@10
S3      S:@9 SA:@99< A:@10 F:@100<
RSTO    S:@9 SA:@99< A:@10 R:@10
RSTR    S:@9 SA:@99< A:@10 R:@100<
RSTOS0  S:@9 R:@10
SH      S:@9 F:@10
RSTRH   SA:@99< R:@100<
SHR     SA:@99< F:@100<
OTH     abc@10 de@100<
"""
"""States, as Zeek's conn.log has them, with segments that lead there."""


@pytest.mark.parametrize("line", STATES.strip().splitlines(), ids=lambda line: line.split()[0])
def test_states(line: str, tmp_path: Path) -> None:
    state, words = line.split(maxsplit=1)
    table = _table(words, tmp_path)
    assert table["conn_state"].to_list() == [state]
    assert table["id_orig_h"].to_list() == ["10.0.0.1"]


HISTORIES = """
ShADadFf      S:@9 SA:@99< A:@10 abc@10 A:@100< de@100< abc@13 F:@16 F:@102<
Sh            S:@9 S:@9 SA:@99< SA:@99<
Shh           S:@9 SA:@99< SA:@98<
SrR           S:@9 RA:@0< R:@10
SRR           S:@9 R:@10 R:@10 R:@20
ShFF          S:@9 SA:@99< F:ab@10 F:@12 F:@13
SQ            S:@9 SF:@9 SR:@9
DIQ           a@9 FR:@10 SRFA:@11 SRA:@12 FR:@13
DQ            a@9 SRA:@12 SFA:@13
^hAD          SA:@99< A:@10 abc@10
DT            abc@10 abc@10
DTTd          abc@10 abc@10*11 xy@100<
DG            a@10 b@20 c@21
DdGa          a@10 d@100/11< b@20 d@101/21< A:@102/22<
DaG           a@10 A:@100/15< b@20
DdGg          a@10 d@100/11< b@20 e@110/21<
DGT           a@10 b@20 f@15 g@16
DWawA         a@10=0 A:@100=0< A:@11=0
DaF           a@10 A:@100/11< F:@11 A:@100/12=0<
SR            S:@9=0 R:@10=0
"""
"""Letters of Zeek's history, with segments that make them; ``*11`` repeats a segment."""


@pytest.mark.parametrize("line", HISTORIES.strip().splitlines(), ids=lambda line: line.split()[0])
def test_histories(line: str, tmp_path: Path) -> None:
    history, *words = line.split()
    repeated = [word.rpartition("*") for word in words]
    words = [
        each for word, by, times in repeated for each in [word if by else times] * (int(times) if by else 1)
    ]
    assert _table(" ".join(words), tmp_path)["history"].to_list() == [history]


def test_octets_are_counted_once(tmp_path: Path) -> None:
    table = _table("S:@9 SA:@99< A:@10 abc@10 abc@10 gh@16 xy@100< F:@18", tmp_path)
    [row] = table.iter_rows(named=True)
    assert (row["orig_bytes"], row["resp_bytes"], row["missed_bytes"]) == (8, 2, 3)
    assert (row["orig_retransmitted"], row["resp_retransmitted"]) == (1, 0)
    assert (row["orig_pkts"], row["resp_pkts"]) == (6, 2)
    assert row["handshake_rtt"].total_seconds() == 0.002
    assert row["duration"].total_seconds() == 0.007


def test_a_new_syn_begins_another_connection(tmp_path: Path) -> None:
    for words, count in (
        ("S:@9 SA:@99< S:@9 abc@10", 1),
        ("S:@9 SA:@99< S:@500 abc@501", 2),
        ("S:@9 F:@10 S:@9", 1),
        ("abc@10 S:@9", 1),
    ):
        assert len(_table(words, tmp_path)) == count, words


def test_community_ids_are_those_of_the_specification() -> None:
    """From its baseline of TCP, UDP and ICMP."""
    a, b = bytes([128, 232, 110, 120]), bytes([66, 35, 250, 204])
    assert community_id(a, b, (34855, 80), 6) == community_id(b, a, (80, 34855), 6)
    assert community_id(a, b, (34855, 80), 6) == "1:LQU9qZlK+B5F3KDmev6m5PMibrg="
    a, b = bytes([192, 168, 1, 52]), bytes([8, 8, 8, 8])
    assert community_id(a, b, (54585, 53), 17) == "1:d/FP5EW3wiY1vCndhwleRRKHowQ="
    a, b = bytes([192, 168, 0, 89]), bytes([192, 168, 0, 1])
    assert community_id(a, b, (8, 0), 1) == "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="
    assert community_id(b, a, (0, 8), 1) == "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="


def test_community_ids_of_rows_are_those_of_each() -> None:
    """Both directions, equal addresses, and types of ICMP with and without an answer."""
    ends = [(0, 0), (0, 1), (0, 1 << 31), (1 << 63, 0), (1 << 63, 1)]
    ports = [(1, 0), (8, 0), (0, 8), (3, 1), (128, 129), (136, 7), (40_000, 53)]
    rows = [
        (4 if not a[0] | b[0] else 6, protocol, *a, *b, *pair)
        for protocol in (1, 6, 17, 58)
        for a in ends
        for b in ends
        for pair in ports
    ]
    names = ("ip_version", "l4_proto", "a_hi", "a_lo", "b_hi", "b_lo", "a_port", "b_port")
    kinds = dict(zip(names, [pl.UInt8] * 2 + [pl.UInt64] * 4 + [pl.UInt16] * 2, strict=True))

    def one(version: int, protocol: int, *of_ends: int) -> str:
        size, pair = 4 if version == 4 else 16, (of_ends[4], of_ends[5])
        a, b = ((of_ends[k] << 64 | of_ends[k + 1]).to_bytes(size, "big") for k in (0, 2))
        one_way = protocol in COUNTERPARTS and COUNTERPARTS[protocol].get(pair[0]) != pair[1]
        return community_id(a, b, pair, protocol, one_way=one_way)

    found = community_ids(pl.DataFrame(rows, schema=kinds, orient="row"))
    assert found == [one(*row) for row in rows]


def test_the_verb(tmp_path: Path) -> None:
    assert len(run("flows", SAMPLE).stdout.splitlines()) == 10
    records = json_lines(run("flows", SAMPLE, "--json", "-f", "tcp").stdout)
    assert [record["conn_state"] for record in records] == ["SF", "SF"]
    for name in ("a.parquet", "a.csv", "a.ndjson"):
        assert run("flows", SAMPLE, "-o", tmp_path / name).stdout == ""
    assert len(pl.read_parquet(tmp_path / "a.parquet")) == len(pl.read_csv(tmp_path / "a.csv")) == 9
    assert "expected a file that ends with" in run("flows", SAMPLE, "-o", "a.txt", code=2).stderr


def test_nothing_has_no_connections() -> None:
    assert len(flows([SAMPLE], chosen=compile_filter("sctp")).connections) == 0


_TINY = Sizes(task=1 << 13, bucket=1 << 12, most_buckets=5)


@pytest.mark.parametrize(("scheduler", "workers"), [("threads", 1), ("threads", 7), ("processes", 2)])
def test_every_scheduler_finds_the_same(scheduler: str, workers: int, tmp_path: Path) -> None:
    """In units of a capture, and in buckets on disk."""
    tcp.write(tmp_path / "a.pcap", random_frames(3)[:900])
    pcap2arrow.convert([SAMPLE], tmp_path / "dataset")
    sources = [tmp_path / "a.pcap", tmp_path / "dataset"]
    at_once = flows(sources)
    found = flows(sources, scheduler=scheduler, workers=workers, sizes=_TINY, temporary=str(tmp_path))
    assert found.connections.equals(at_once.connections)
    assert len(found.connections) > 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pcap", "dataset"]


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2, 7])
def test_a_cluster_finds_the_same(workers: int, tmp_path: Path) -> None:
    tcp.write(tmp_path / "a.pcap", random_frames(3)[:900])
    at_once = flows([tmp_path / "a.pcap"])
    how = {"threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(n_workers=workers, **how) as cluster:  # type: ignore[no-untyped-call]
        settings = {"scheduler": cluster.scheduler_address, "temporary": str(tmp_path)}
        found = flows([tmp_path / "a.pcap"], sizes=_TINY, **settings)
    assert found.connections.equals(at_once.connections)
