"""Streams without loss or conflict carry what tshark follows."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path

import polars as pl
import pytest

from jobs.streams import write_streams
from queries.streams.rules import Rules
from tests.conftest import CorpusCapture
from tests.test_flows import DECODED

Tool = Callable[[str], str]
Sent = frozenset[tuple[object, int, bytes]]
"""Both ends of a connection: address, port, and what was sent from there."""

_MOST_STREAMS = 40
_NODE = re.compile(r"^Node \d: \[?(.*?)\]?:(\d+)$")

EXCEPTIONS = {
    "nDPI/cfgs/default/pcap/KakaoTalk_chat.pcap": "two SYN with ACK of different numbers: tshark follows the wrong one",
    "suricata-verify/firewall/tcp-session-decode-malformed-ipv4/input.pcap": "a bad IP option stops tshark",
}
"""Captures that differ, and why."""


def _followed(tshark: str, capture: Path) -> Counter[Sent] | None:
    """What tshark follows; None of captures with more streams than that."""
    words = [word for number in range(_MOST_STREAMS) for word in ("-z", f"follow,tcp,raw,{number}")]
    fields = ("-Y", "tcp", "-T", "fields", "-e", "tcp.stream")
    done = subprocess.run([tshark, "-r", capture, *fields, *words], capture_output=True, text=True)
    listed, *followed = done.stdout.split("=" * 67)
    if any(int(word) >= _MOST_STREAMS for line in listed.split() for word in line.split(",")):
        return None
    parts = (part for part in followed if "Node 1: " in part)
    return Counter(_sent(part) for part in parts if "Node 0: :0" not in part)  # a stream of no packet


def _sent(part: str) -> Sent:
    lines = part.strip("\n").splitlines()
    ends = [match.groups() for line in lines if (match := _NODE.match(line))]
    said = [
        "".join(each.strip() for each in lines[4:] if each.startswith("\t") == back) for back in (False, True)
    ]
    return _both(
        (host, int(port), bytes.fromhex(text)) for (host, port), text in zip(ends, said, strict=True)
    )


def _both(ends: Iterator[tuple[str, int, bytes]]) -> Sent:
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


def _compare(captures: Sequence[CorpusCapture], tshark: str, folder: Path, least: int) -> None:
    compared, different = 0, {}
    for number, capture in enumerate(captures):
        found = () if capture.name in EXCEPTIONS else _ours(capture.path, folder / str(number))
        ours = [each for each in found if any(octets for _, _, octets in each)]
        theirs = _followed(tshark, capture.path) if ours else None
        if theirs is None:
            continue
        wrong = [each for each in ours if not theirs[each]]
        if wrong:
            different[capture.name] = [
                sorted((str(host), port, len(octets)) for host, port, octets in each) for each in wrong[:3]
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
    _compare(_with_tcp(manifest, 500)[5::120], tool("tshark"), tmp_path, 5)


@pytest.mark.long
def test_the_corpus(manifest: list[CorpusCapture], tool: Tool, tmp_path: Path) -> None:
    _compare(_with_tcp(manifest, 20_000), tool("tshark"), tmp_path, 1_000)
