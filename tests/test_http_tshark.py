"""Transactions beside what tshark says of HTTP in the corpus."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from jobs.streams.api import write_streams
from queries.streams.rules import Rules
from tests.conftest import CorpusCapture

Tool = Callable[[str], str]

_FIELDS = ("http.request.method", "http.request.uri", "http.response.code")
_SWITCHING = 101
_GAP = "tshark stops where octets are missing"
_INNER = "inside another protocol"

EXCEPTIONS = {
    "PcapPlusPlus/ExamplesTest/pcap_examples/frag_http_req.pcap": "fragments",
    "dpkt/data/nb6-http.pcap": _INNER,
    "nDPI/cfgs/default/pcap/http-manipulated.pcap": "requests of HTTP/0.9",
    "scapy/pcaps/http_compressed-zstd.pcap": "a response of which tshark waits for the end",
    "suricata-verify/http-connect/http-connect-fragmented/input.pcap": "HTTP in a tunnel of HTTP",
    "suricata-verify/http-connect/http-connect-simple/input.pcap": "HTTP in a tunnel of HTTP",
    "suricata-verify/http-gap-beyond-body/input.pcap": _GAP,
    "suricata-verify/http-gap-double/input.pcap": _GAP,
    "suricata-verify/http-gap-simple/input.pcap": _GAP,
    "suricata-verify/http-gap-whole-body/input.pcap": _GAP,
    "suricata-verify/http-missing-protocol/input.pcap": "requests of HTTP/0.9",
    "suricata-verify/http-multiple-cl/input.pcap": "a request with two lengths",
    "suricata-verify/http-pipeline-files-with-gap/input.pcap": _GAP,
    "suricata-verify/http-request-invalid/input.pcap": "HTTP over UDP",
    "tcpdump/arcnet-rfc1051-arp-icmp-http.pcap": "a link type that is not decoded",
    "zeek/Traces/tunnels/vxlan-encapsulated-http.pcap": _INNER,
}
"""Captures of which transactions differ, and why."""

Seen = tuple[Counter[tuple[str, str]], Counter[int]]
"""How often something was asked for, as (method, path), and answered, by status."""


def _theirs(tool: str, capture: Path) -> Seen:
    fields = [word for field in _FIELDS for word in ("-e", field)]
    command = [
        tool,
        "-nr",
        str(capture),
        "-2",
        "-Y",
        "http.request or http.response",
        "-T",
        "fields",
        *fields,
    ]
    options = ["-E", "aggregator=\x01", "-o", "tcp.reassemble_out_of_order:TRUE"]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    asked: Counter[tuple[str, str]] = Counter()
    answered: Counter[int] = Counter()
    for line in done.stdout.splitlines():
        methods, paths, statuses = (each.split("\x01") for each in line.split("\t"))
        asked.update((method, path) for method, path in zip(methods, paths, strict=False) if method)
        answered.update(int(status) for status in statuses if status)
    finals = {status: count for status, count in answered.items() if status >= 200 or status == _SWITCHING}
    return asked, Counter(finals)


def _ours(capture: Path, folder: Path) -> Seen:
    write_streams([capture], rules=Rules(), tables=str(folder), with_http=True)
    if not (folder / "http.parquet").exists():
        return Counter(), Counter()
    table = pl.read_parquet(folder / "http.parquet")
    asked = table.filter(pl.col("method").is_not_null()).select("method", "path").rows()
    return Counter(asked), Counter(table["status"].drop_nulls().to_list())


def _compare(captures: list[CorpusCapture], tool: str, folder: Path) -> tuple[int, int]:
    transactions = 0
    different = []
    for number, capture in enumerate(captures):
        theirs, ours = _theirs(tool, capture.path), _ours(capture.path, folder / str(number))
        transactions += ours[1].total()
        if theirs != ours:
            different.append(capture.name)
    print(f"\n{len(captures)} captures, {transactions} transactions; different: {different or 'none'}")
    assert set(different) <= set(EXCEPTIONS)
    return len(captures), transactions


def _likely(manifest: list[CorpusCapture]) -> list[CorpusCapture]:
    """Captures that are called after HTTP, but for those that are meant to fool its readers."""
    return [
        each for each in manifest if each.is_capture and "http" in each.name and "evader" not in each.name
    ]


def test_a_sample_of_the_corpus(manifest: list[CorpusCapture], tool: Tool, tmp_path: Path) -> None:
    compared, transactions = _compare(_likely(manifest)[5::16], tool("tshark"), tmp_path)
    assert compared >= 5 and transactions >= 5


@pytest.mark.long
def test_the_corpus(manifest: list[CorpusCapture], tool: Tool, tmp_path: Path) -> None:
    compared, transactions = _compare(_likely(manifest), tool("tshark"), tmp_path)
    assert compared > 80 and transactions > 150
