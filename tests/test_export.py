"""Exports against the real tools: tcpdump copies, mergecap merges, editcap cuts, tshark reads back."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow.compute as pc
import pytest

import pcap2arrow
from pcap2arrow.errors import ExportError, UsageError
from tests.conftest import CorpusCapture

Tool = Callable[[str], str]


def _sound_ethernet(manifest: list[CorpusCapture], *, most: int) -> list[CorpusCapture]:
    """Small Ethernet captures of microseconds that tcpdump reads to the end, from all over the corpus."""
    found = [
        capture
        for capture in manifest
        if capture.format == "pcap"
        and capture.link_types == {1}
        and capture.time_resolution == "us"
        and capture.tcpdump_rc == 0
        and not capture.structure_note
        and 0 < capture.packets < 400
    ]
    return found[:: max(len(found) // most, 1)][:most]


def _run(*command: str | Path) -> bytes:
    return subprocess.run(list(map(str, command)), check=True, capture_output=True).stdout


def test_a_copy_is_what_tcpdump_writes(manifest: list[CorpusCapture], tool: Tool, tmp_path: Path) -> None:
    tcpdump = tool("tcpdump")
    compared = 0
    for capture in _sound_ethernet(manifest, most=150):
        if capture.snap_length < 65535:
            continue  # tcpdump cuts packets to the snap length; here they are kept
        ours, theirs = tmp_path / "ours", tmp_path / "theirs"
        pcap2arrow.export(capture.path, ours, format="pcap")
        _run(tcpdump, "-Z", "root", "-r", capture.path, "-w", theirs)
        # The snap length is the sources' or the longest packet's, which tcpdump does not look at.
        assert ours.read_bytes()[:16] == theirs.read_bytes()[:16], capture.path
        assert ours.read_bytes()[20:] == theirs.read_bytes()[20:], capture.path
        compared += 1
    assert compared > 50


@pytest.mark.parametrize("step", [3, 7])
def test_a_merge_is_what_mergecap_writes(
    manifest: list[CorpusCapture], tool: Tool, tmp_path: Path, step: int
) -> None:
    mergecap = tool("mergecap")
    captures = [capture.path for capture in _sound_ethernet(manifest, most=120)[::step]]
    report = pcap2arrow.export(captures, tmp_path / "ours", format="pcap")
    _run(mergecap, "-F", "pcap", "-w", tmp_path / "theirs", *captures)
    assert (tmp_path / "ours").read_bytes()[24:] == (tmp_path / "theirs").read_bytes()[24:]
    assert report.packets is not None and report.packets > 300


def test_the_order_is_the_same_from_a_dataset(manifest: list[CorpusCapture], tmp_path: Path) -> None:
    captures = [capture.path for capture in _sound_ethernet(manifest, most=60)]
    captures = list({path.name: path for path in captures}.values())
    first = {path: pcap2arrow.info(path)[0]["first_ns"] for path in captures}
    captures.sort(key=lambda path: (first[path], path.name))
    assert len(captures) > 10
    pcap2arrow.convert(captures, tmp_path / "dataset")
    pcap2arrow.export(tmp_path / "dataset", tmp_path / "stored", format="pcap")
    pcap2arrow.export(captures, tmp_path / "direct", format="pcap")
    assert (tmp_path / "stored").read_bytes() == (tmp_path / "direct").read_bytes()


@pytest.mark.parametrize("snaplen", [1, 40, 68, 1500])
def test_a_cut_is_what_editcap_writes(corpus: Path, tool: Tool, tmp_path: Path, snaplen: int) -> None:
    editcap = tool("editcap")
    for name in ("usec-be.pcap", "unsorted.pcap", "seqwrap.pcap"):
        pcap2arrow.export(corpus / "derived" / name, tmp_path / "ours", format="pcap", snaplen=snaplen)
        _run(editcap, "-F", "pcap", "-s", str(snaplen), corpus / "derived" / name, tmp_path / "theirs")
        assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes(), name


_FIELDS = (
    "frame.time_epoch",
    "frame.interface_name",
    "frame.comment",
    "frame.cap_len",
    "frame.len",
    "frame.protocols",
)


def test_a_pcapng_keeps_names_comments_and_times(
    manifest: list[CorpusCapture], tool: Tool, tmp_path: Path
) -> None:
    tshark = tool("tshark")
    compared = 0
    wanted = [c for c in manifest if c.format == "pcapng" and c.tcpdump_rc == 0 and 0 < c.packets < 200]
    for capture in wanted[:40:4]:
        if "10^-12" in capture.time_resolution:
            continue  # tshark 4.0 prints another fraction than the picoseconds that are written
        ours = tmp_path / "ours.pcapng"
        report = pcap2arrow.export(capture.path, ours, format="pcapng")
        assert report.packets == capture.packets, capture.path
        # -Y frame.cap_len leaves out what tshark counts as frames though it is no packet (statistics, events).
        fields = [argument for field in _FIELDS for argument in ("-e", field)]
        read = [_run(tshark, "-n", "-r", path, "-Y", "frame.cap_len && frame.encap_type", "-T", "fields", *fields)
                for path in (capture.path, ours)]  # fmt: skip
        if b"\t\t\t" not in read[0]:
            assert read[0] == read[1], capture.path
            compared += 1
    assert compared > 3


def test_auto_chooses_the_plainest_format_that_holds_all(corpus: Path, tmp_path: Path) -> None:
    def magic(*names: str) -> bytes:
        pcap2arrow.export([corpus / "derived" / name for name in names], tmp_path / "out")
        return (tmp_path / "out").read_bytes()[:4]

    assert magic("usec-be.pcap") == bytes.fromhex("d4c3b2a1")
    assert magic("nsec-be.pcap") == bytes.fromhex("4d3cb2a1")
    assert magic("usec-be.pcap", "nsec-le.pcap") == bytes.fromhex("4d3cb2a1")
    assert magic("two-sections-mixed.pcapng") == bytes.fromhex("0a0d0d0a")


def test_what_a_format_cannot_hold_is_refused_and_leaves_no_file(corpus: Path, tmp_path: Path) -> None:
    mixed = corpus / "PcapPlusPlus/Pcap++Test/PcapExamples/pcapng-example.pcapng"
    with pytest.raises(ExportError, match="one link type"):
        pcap2arrow.export(mixed, tmp_path / "out.pcap", format="pcap")
    with pytest.raises(UsageError, match="snaplen"):
        pcap2arrow.export(mixed, tmp_path / "out.pcap", snaplen=0)
    assert list(tmp_path.iterdir()) == []


def test_a_filtered_table_can_be_written(corpus: Path, tool: Tool, tmp_path: Path) -> None:
    tcpdump = tool("tcpdump")
    capture = corpus / "PcapPlusPlus/ExamplesTest/pcap_examples/tls2.pcap"
    table = pcap2arrow.read_capture(capture)
    chosen = table.filter(pc.and_(pc.equal(table["l4_proto"], 6), pc.equal(table["src_port"], 443)))
    report = pcap2arrow.write_capture(chosen, tmp_path / "ours")
    theirs = _run(tcpdump, "-Z", "root", "-r", capture, "--count", "tcp src port 443").split()[0]
    assert report.packets == int(theirs)
    assert int(_run(tcpdump, "-r", tmp_path / "ours", "--count").split()[0]) == int(theirs)


def test_packets_longer_than_their_header_says(tmp_path: Path) -> None:
    """The header of what is written says how long packets are, though those of its sources do not."""
    from tests.slicing import write_capture

    paths = [
        write_capture(
            tmp_path / f"{k}.pcap", [(k * 10**9, bytes(60)), (9 * 10**9, bytes(60 + k * 40))], snap_length=80
        )
        for k in range(3)
    ]
    for sources, longest in ((paths[:2], 100), (paths, 140), (paths[:1], 80)):
        report = pcap2arrow.export(sources, tmp_path / "all.pcap")
        written = (tmp_path / "all.pcap").read_bytes()
        assert (report.packets, report.octets) == (2 * len(sources), len(written))
        assert int.from_bytes(written[16:20], "little") == longest
