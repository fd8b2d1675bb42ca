"""Streams without loss or conflict carry what Wireshark follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address
from pathlib import Path

import polars as pl
import pytest

from jobs.streams.api import write_streams
from queries.streams.rules import Rules
from tests.conftest import CorpusCapture
from tests.oracles.sharkd import Side, sharkd
from tests.test_flows import DECODED

Tool = Callable[[str], str]
Sent = frozenset[tuple[object, int, bytes]]
"""Both ends of a connection: address, port, and what was sent from there."""

_MOST_STREAMS = 40

_BEFORE = "octets from before the first segment that came: Wireshark leaves them out"
_BEHIND = "octets behind a RST: another stream here, as of tcpflow, and the same one to Wireshark"

EXCEPTIONS = {
    "derived/unsorted.pcap": _BEFORE,
    "tcpflow/tests/test1-part2.pcap": _BEFORE,
    "tcpflow/tests/test5-lines-randomized.pcap": _BEFORE,
    "tcpflow/tests/test5-lines-randomized2.pcap": _BEFORE,
    "suricata-verify/bug-3286-02-linux-evasion/with_evasion_linux.pcap": _BEHIND,
    "suricata-verify/bug-3286-03-windows-evasion/with_evasion_windows.pcap": _BEHIND,
    "suricata-verify/issue-3341-tcphdr-01/urgent11_cve_2019_12260.pcap": _BEHIND,
    "suricata-verify/security-4710-01/input.pcap": _BEHIND,
    "suricata-verify/security-4710-02/input.pcap": _BEHIND,
    "nDPI/cfgs/default/pcap/KakaoTalk_chat.pcap": "two SYN with ACK of different numbers: the wrong one is followed",
    "nDPI/cfgs/default/pcap/reasm_crash_anon.pcapng": "numbers that jump by more than 16 MiB begin another stream here",
    "suricata-verify/firewall/tcp-session-decode-malformed-ipv4/input.pcap": "a bad IP option stops its dissector",
    "tcpdump/bgp_pmsi_tunnel-oobr.pcap": "a bad header: no stream to Wireshark",
    "tcpdump/of10_s4810.pcap": "two segments hold a packet, whose addresses Wireshark takes for theirs",
}
"""Captures that differ, and why."""


def _both(ends: Iterable[Side]) -> Sent:
    return frozenset((ip_address(host), port, octets) for host, port, octets in ends)


def _ours(capture: Path, folder: Path) -> list[Sent]:
    """Connections of which nothing is missing or said twice differently."""
    write_streams([capture], rules=Rules(), tables=str(folder), octets=True)
    if not (folder / "streams.parquet").exists():
        return []
    streams = pl.read_parquet(folder / "streams.parquet")
    runs = pl.read_parquet(folder / "octets.parquet").sort("stream", "offset")
    octets = {stream: b"".join(some["octets"]) for (stream,), some in runs.group_by("stream")}
    found = []
    for _, both in streams.group_by("connection"):
        if both["missing"].sum() or both["conflict"].any() or both["violations"].sum():
            continue
        ends = {(row["src"], row["src_port"]): octets.get(row["stream"], b"") for row in both.to_dicts()}
        for row in both.to_dicts():
            ends.setdefault((row["dst"], row["dst_port"]), b"")
        found.append(_both((host, port, sent) for (host, port), sent in ends.items()))
    return found


def _compare(captures: Sequence[CorpusCapture], program: str, folder: Path, least: int) -> None:
    compared, different = 0, {}
    with sharkd(program) as shark:
        for number, capture in enumerate(captures):
            found = () if capture.name in EXCEPTIONS else _ours(capture.path, folder / str(number))
            ours = [each for each in found if any(octets for _, _, octets in each)]
            followed = shark.follow(capture.path, _MOST_STREAMS) if ours else None
            if followed is None:
                continue
            theirs = Counter(map(_both, followed))
            wrong = [each for each in ours if not theirs[each]]
            if wrong:
                different[capture.name] = [
                    sorted((str(host), port, len(octets)) for host, port, octets in each)
                    for each in wrong[:3]
                ]
            compared += len(ours)
    print(f"\n{compared} connections of {len(captures)} captures; different: {different or 'none'}")
    assert different == {}
    assert compared >= least


def _with_tcp(manifest: list[CorpusCapture], longest: int) -> list[CorpusCapture]:
    return [
        capture
        for capture in manifest
        if capture.sound and capture.link_types <= DECODED and 0 < capture.packets < longest
    ]


def test_a_sample(manifest: list[CorpusCapture], tool: Tool, tmp_path: Path) -> None:
    _compare(_with_tcp(manifest, 500)[5::120], tool("sharkd"), tmp_path, 5)


@pytest.mark.long
def test_the_corpus(manifest: list[CorpusCapture], tool: Tool, tmp_path: Path) -> None:
    _compare(_with_tcp(manifest, 20_000), tool("sharkd"), tmp_path, 1_000)
