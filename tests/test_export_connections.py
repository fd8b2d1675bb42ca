"""Whole connections out of sources: those of tshark's ``tcp.stream``."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import pcap2arrow
from jobs.flows.api import flows
from jobs.flows.connections import export_connections
from queries.filters.compiled import compile_filter
from tests.commands import SAMPLE, run

Tool = Callable[[str], str]

CAPTURES = """
gopacket/layers/testdata/cip.pcap            tcp.flags.reset==1     tcp[13] & 4 != 0
zeek/Traces/pop3/pop3.pcap                   tcp.flags.reset==1     tcp[13] & 4 != 0
nDPI/cfgs/default/pcap/ssh.pcap              frame.len>1200         greater 1201
suricata-verify/rdp-protocol/RDP-003.pcap    tcp.len>400            tcp and ip[2:2] > 460
"""
"""Captures, and the same packets in tshark's language and in that of filters."""


def _frames(tshark: str, capture: Path, which: str, *fields: str) -> list[str]:
    words = [word for field in fields for word in ("-e", field)]
    command = [tshark, "-r", str(capture), "-Y", which, "-T", "fields", *words]
    return subprocess.run(command, capture_output=True, text=True).stdout.split("\n")[:-1]


def _of_streams(tshark: str, capture: Path, which: str) -> list[str]:
    """Times and lengths of all packets of TCP streams in which there is such a packet."""
    streams = sorted({line for line in _frames(tshark, capture, f"tcp && {which}", "tcp.stream") if line})
    if not streams:
        return []
    return _frames(tshark, capture, f"tcp.stream in {{{','.join(streams)}}}", "frame.time_epoch", "frame.len")


def _packets(capture: Path) -> int:
    return len(pcap2arrow.scan(capture).collect())


@pytest.mark.parametrize("line", CAPTURES.strip().splitlines(), ids=lambda line: Path(line.split()[0]).name)
def test_connections_are_the_streams_of_tshark(line: str, corpus: Path, tool: Tool, tmp_path: Path) -> None:
    name, which, expression = line.split(maxsplit=2)
    capture, tshark = corpus / name, tool("tshark")
    wanted = _of_streams(tshark, capture, which)
    pcap2arrow.convert(capture, tmp_path / "dataset")
    for source in (capture, tmp_path / "dataset"):
        target = tmp_path / "out.pcap"
        export_connections([str(source)], str(target), chosen=compile_filter(expression))
        assert _frames(tshark, target, "frame", "frame.time_epoch", "frame.len") == wanted


def test_a_connection_of_a_community_id(corpus: Path, tool: Tool, tmp_path: Path) -> None:
    capture, target = corpus / "suricata-verify/rdp-protocol/RDP-003.pcap", tmp_path / "out.pcap"
    row = flows([capture]).connections.row(0, named=True)
    run("export", capture, "--flow", row["community_id"], "-w", target)
    assert _packets(target) == row["orig_pkts"] + row["resp_pkts"]
    [again] = flows([target]).connections.iter_rows(named=True)
    assert again == row
    middle = row["ts"] + row["duration"] / 2
    run(
        "export",
        capture,
        "--flow",
        row["community_id"],
        "--end",
        f"{middle:%Y-%m-%dT%H:%M:%S.%fZ}",
        "-w",
        target,
    )
    assert 0 < _packets(target) < row["orig_pkts"] + row["resp_pkts"]


def test_fragments_go_with_their_connection(corpus: Path, tmp_path: Path) -> None:
    capture, target = corpus / "nDPI/cfgs/default/pcap/dns_fragmented.pcap", tmp_path / "out.pcap"
    run("export", capture, "--connections", "-f", "udp port 56680", "-w", target)
    assert pcap2arrow.scan(target).collect()["frag_key"].drop_nulls().n_unique() == 1
    before, after = (flows([each]).connections for each in (capture, target))
    assert after.drop("connection").equals(before.filter(id_orig_p=56680).drop("connection"))


def test_words_that_do_not_go_together(tmp_path: Path) -> None:
    for words in (
        ["--connections"],
        ["--flow", "1:x", "-f", "tcp"],
        ["--flow", "1:x", "--connections", "-f", "tcp"],
    ):
        assert "whole connections" in run("export", SAMPLE, *words, "-w", tmp_path / "x", code=2).stderr
