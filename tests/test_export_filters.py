"""Exports of what filters select: the same packets, blocks and order as of everything, with those left out."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pcap2arrow
from jobs.export import capture_name
from pcap2arrow.errors import FilterError, UsageError
from pcap2arrow.writing.api import export_each
from queries.exports import FilterSelection
from queries.filters.compiled import compile_filter
from tests.blocks import pcap_header, pcap_record
from tests.commands import SAMPLE, run
from tests.conftest import CorpusCapture
from tests.oracles import libpcap
from tests.oracles.reader import whole_packets

Tool = Callable[[str], str]
ENHANCED_PACKET = 6
needs_libpcap = pytest.mark.skipif(libpcap.missing() is not None, reason=libpcap.missing() or "")

EXPRESSIONS = ("tcp", "not tcp and not arp", "len > 100", "ip6", "tcp[13] & 2 != 0", "ether[60] != 0 or udp")


def _export(source: Path | list[Path], target: Path, expression: str, **settings: str) -> int:
    """Export what an expression selects; how many packets that is."""
    selection = FilterSelection([compile_filter(expression)])
    report = pcap2arrow.export(source, target, selection=selection, **settings)  # type: ignore[arg-type]
    assert report.packets is not None
    return report.packets


@pytest.fixture(scope="module", params=["capture", "stored", "referenced"])
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample as it is, and as datasets; tests only read it."""
    if request.param == "capture":
        return SAMPLE
    folder = tmp_path_factory.mktemp("sample") / request.param
    pcap2arrow.convert([SAMPLE], folder, frames=request.param)
    return folder


def _blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """The blocks of a little-endian pcapng, each with its type."""
    octets, at = path.read_bytes(), 0
    while at < len(octets):
        kind, length = struct.unpack_from("<II", octets, at)
        yield kind, octets[at : at + length]
        at += length


@needs_libpcap
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_filtered_pcapng_is_the_whole_one_without_some_packets(
    sample: Path, tmp_path: Path, expression: str
) -> None:
    """Names, secrets, descriptions of interfaces and comments of packets are kept."""
    whole, ours = tmp_path / "whole.pcapng", tmp_path / "ours.pcapng"
    pcap2arrow.export(sample, whole, format="pcapng")
    oracle = libpcap.compile(expression)
    packets = iter(whole_packets(whole))
    expected = b""
    for kind, block in _blocks(whole):
        packet = next(packets) if kind == ENHANCED_PACKET else None
        if packet is None or oracle.matches(packet.data, packet.frame_len):
            expected += block
    count = _export(sample, ours, expression, format="pcapng")
    assert ours.read_bytes() == expected
    assert 0 < count == len(whole_packets(ours)) < len(whole_packets(whole))


def test_the_format_is_that_of_the_whole(sample: Path, corpus: Path, tmp_path: Path) -> None:
    """So that it is known before the first packet, and the same for every filter."""
    nanoseconds = corpus / "derived" / "nsec-le.pcap"
    for source in (sample, nanoseconds):
        pcap2arrow.export(source, tmp_path / "whole")
        assert _export(source, tmp_path / "none", "len > 100000") == 0
        assert (tmp_path / "none").read_bytes() == (tmp_path / "whole").read_bytes()[:24]


def test_the_order_is_that_of_the_whole_then_filtered(manifest: list[CorpusCapture], tmp_path: Path) -> None:
    """Merged captures, of which some go back in time."""
    found = [
        capture.path
        for capture in manifest
        if capture.format == "pcap" and capture.link_types == {1} and capture.sound and 5 < capture.packets < 400
        and capture.snap_length >= 65535 and not capture.cut_packets
    ]  # fmt: skip
    captures = list({path.name: path for path in found}.values())[::12] + [
        capture.path for capture in manifest if capture.name == "derived/unsorted.pcap"
    ]
    assert len(captures) > 20
    pcap2arrow.convert(captures, tmp_path / "dataset")
    pcap2arrow.export(tmp_path / "dataset", tmp_path / "whole", format="nspcap")
    for expression in ("udp", "not (tcp or udp)", "ip[8] > 100 or len < 80"):
        _export(tmp_path / "whole", tmp_path / "expected", expression, format="nspcap")
        _export(tmp_path / "dataset", tmp_path / "ours", expression, format="nspcap")
        assert (tmp_path / "ours").read_bytes()[24:] == (tmp_path / "expected").read_bytes()[24:]
        assert len(whole_packets(tmp_path / "ours")) > 20


def test_partitions_are_put_together(tmp_path: Path) -> None:
    """A unit whose packets alternate between dates."""
    days = [pcap_record("<", bytes([n] * 60), seconds=86400 * (1 + n % 3)) for n in range(200)]
    (tmp_path / "days.pcap").write_bytes(pcap_header("<") + b"".join(days))
    pcap2arrow.convert([tmp_path / "days.pcap"], tmp_path / "dataset")
    for expression in ("ether[0] & 3 = 1", "ether[0] >= 0"):
        for source in ("days.pcap", "dataset"):
            _export(tmp_path / source, tmp_path / f"of {source}", expression)
        assert (tmp_path / "of days.pcap").read_bytes() == (tmp_path / "of dataset").read_bytes()
    first = [packet.data[0] for packet in whole_packets(tmp_path / "of dataset")]
    assert sorted(first) == list(range(200))


def test_what_the_snap_length_cuts_is_not_seen_but_kept(tmp_path: Path) -> None:
    frames = [bytes(60) + bytes([n]) for n in range(4)]
    records = b"".join(pcap_record("<", frame) for frame in frames)
    (tmp_path / "a.pcap").write_bytes(pcap_header("<", snap_length=60) + records)
    pcap2arrow.convert([tmp_path / "a.pcap"], tmp_path / "dataset")
    for source in (tmp_path / "a.pcap", tmp_path / "dataset"):
        assert _export(source, tmp_path / "b.pcap", "ether[60] >= 0") == 0
        assert _export(source, tmp_path / "b.pcap", "ether[59] = 0") == 4
        assert [packet.data for packet in whole_packets(tmp_path / "b.pcap")] == frames


@needs_libpcap
@pytest.mark.parametrize("order", ["<", ">"])
def test_headers_in_the_order_of_the_machine(tmp_path: Path, order: str) -> None:
    """Of NULL, whose address family is in the byte order of the capture."""
    frames = [struct.pack(order + "I", family) + b"\x45" + bytes(30) for family in (2, 24, 30, 2)]
    path = tmp_path / "null.pcap"
    path.write_bytes(
        pcap_header(order, link_word=0) + b"".join(pcap_record(order, frame) for frame in frames)
    )
    pcap2arrow.convert([path], tmp_path / "dataset")
    oracle = libpcap.compile("ip", dlt=0, swapped=order == ">")
    expected = [frame for frame in frames if oracle.matches(frame)]
    for source in (path, tmp_path / "dataset"):
        _export(source, tmp_path / "out", "ip")
        assert [packet.data for packet in whole_packets(tmp_path / "out")] == expected != []


# Several filters in one pass


def test_one_pass_writes_what_single_exports_write(sample: Path, tmp_path: Path) -> None:
    chosen = FilterSelection([compile_filter(text) for text in EXPRESSIONS])
    reports = export_each(sample, lambda number, format: tmp_path / f"{number}.{format}", chosen)
    assert [report.files for report in reports.values()] == [
        (str(tmp_path / f"{number}.nspcap"),) for number in range(len(EXPRESSIONS))
    ]
    for number, text in enumerate(EXPRESSIONS):
        assert reports[number].packets == _export(sample, tmp_path / "single", text)
        assert (tmp_path / f"{number}.nspcap").read_bytes() == (tmp_path / "single").read_bytes()


FILE = """\
# what to look at
tcp port 80 or  tcp port 443

foo
ip6
wlan addr1 1:2:3:4:5:6
ip and ip6
"""


def test_a_file_of_expressions_writes_a_capture_each(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "filters").write_text(FILE)
    done = run("export", sample, "--filters", tmp_path / "filters", "-w", tmp_path / "out", code=1)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "002-tcp-port-80-or-tcp-port-443.pcap",
        "005-ip6.pcap",
        "007-ip-and-ip6.pcap",
    ]
    assert done.stderr.splitlines() == [
        "pcap2arrow: warning: 'ip and ip6': expression rejects all packets",
        "pcap2arrow: line 4: foo: can't parse filter expression: syntax error",
        "pcap2arrow: line 6: wlan addr1 1:2:3:4:5:6: 'addr1' and 'address1' are only supported on 802.11 with "
        "802.11 headers",
    ]
    run("export", sample, "-f", "ip6", "-w", tmp_path / "ip6.pcap")
    assert (tmp_path / "out" / "005-ip6.pcap").read_bytes() == (tmp_path / "ip6.pcap").read_bytes()


def test_files_are_named_by_line_and_expression() -> None:
    assert capture_name(7, "TCP port 80 && !(host 2001:db8::1)") == "007-tcp-port-80-host-2001-db8-1"
    assert capture_name(12, "../../etc") == "012-etc"
    assert capture_name(1, "!") == "001"
    assert len(capture_name(1234, "host 10.0.0.1 or " * 50, digits=4)) <= 54


def test_wrong_expressions_alone_write_nothing(tmp_path: Path) -> None:
    (tmp_path / "filters").write_text("foo\nwlan ra 1:2:3:4:5:6\n")
    done = run("export", SAMPLE, "--filters", tmp_path / "filters", "-w", tmp_path / "out", code=1)
    assert len(done.stderr.splitlines()) == 2
    assert not (tmp_path / "out").exists()


# The command line

WRONG = """
-f tcp\\ prt -w {new}                        | can't parse filter expression: syntax error
-f host\\ nobody -w {new}                    | unknown host 'nobody'
-f wlan\\ ra\\ 1:2:3:4:5:6 -w {new}          | 'ra' is only supported on 802.11
-f tcp --filters {filters} -w {new}          | -f and --filters exclude each other
-f tcp --format original -w {new}            | original: writes whole captures
--filters {filters} --format original -w {new} | original: writes whole captures
--filters {filters} -w -                     | name a folder with -w
--filters {filters} -w {filters}             | expected a folder for the captures
--filters {new} -w {new}                     | can't read the filters in
--filters {empty} -w {new}                   | holds no filter
-f tcp --netmask 255.255 -w {new}            | '255.255': expected a mask such as 255.255.255.0
-f tcp --hosts {filters} -w {new}            | line 1: expected an IP address, found 'tcp'
"""


@pytest.mark.parametrize("case", WRONG.strip().splitlines(), ids=lambda case: case.split("|")[0].strip())
def test_nothing_is_done_where_the_command_is_wrong(case: str, tmp_path: Path) -> None:
    line, reason = (part.strip() for part in case.split("|"))
    (tmp_path / "filters").write_text("tcp\n")
    (tmp_path / "empty").write_text("# nothing\n")
    places = {name: tmp_path / name for name in ("new", "filters", "empty")}
    before = sorted(tmp_path.iterdir())
    words = [word.replace("\0", " ").format_map(places) for word in line.replace("\\ ", "\0").split()]
    done = run("export", SAMPLE, *words, code=2)
    assert reason in done.stderr
    assert done.stdout == ""
    assert sorted(tmp_path.iterdir()) == before


def test_a_wrong_expression_is_underlined(tmp_path: Path) -> None:
    done = run("export", SAMPLE, "-f", "tcp port 80 and tcp prt 80", "-w", tmp_path / "new", code=2)
    reason, text, mark, hint = done.stderr.splitlines()
    assert reason == "pcap2arrow: can't parse filter expression: syntax error"
    assert text[mark.index("^") : mark.rindex("^") + 1] == "prt"
    assert "hint:" in hint


def test_names_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("192.0.2.10 alpha\n2001:db8::10 alpha\n")
    run("export", SAMPLE, "-f", "host alpha", "--hosts", tmp_path / "hosts", "-w", tmp_path / "a.pcap")
    by_number = _export(SAMPLE, tmp_path / "b.pcap", "host 192.0.2.10 or host 2001:db8::10")
    assert (tmp_path / "a.pcap").read_bytes() == (tmp_path / "b.pcap").read_bytes()
    assert by_number > 0


def test_a_filter_may_mean_nothing_on_some_link_types(corpus: Path, tmp_path: Path) -> None:
    path = corpus / "PcapPlusPlus" / "Pcap++Test" / "PcapExamples" / "pcapng-example.pcapng"
    done = run("export", path, "-f", "ether host 1:2:3:4:5:6 or len > 0", "-w", tmp_path / "out.pcapng")
    assert "selects nothing of link type 113: ethernet addresses supported only on ethernet" in done.stderr
    assert {packet.link_type for packet in whole_packets(tmp_path / "out.pcapng")} == {1}
    with pytest.raises(FilterError):
        _export(path, tmp_path / "none", "wlan ra 1:2:3:4:5:6")
    assert not (tmp_path / "none").exists()


def test_without_octets_there_is_nothing_to_export(tmp_path: Path) -> None:
    pcap2arrow.convert([SAMPLE], tmp_path / "dataset", frames="none")
    done = run("export", tmp_path / "dataset", "-f", "tcp", "-w", tmp_path / "out", code=1)
    assert "there are no octets to write" in done.stderr


def test_originals_are_whole(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="original"):
        _export(SAMPLE, tmp_path / "out", "tcp", format="original")


def test_wireshark_reads_a_filtered_export(sample: Path, tool: Tool, tmp_path: Path) -> None:
    assert _export(sample, tmp_path / "out.pcapng", "tcp or udp", format="pcapng") > 0
    words = [tool("capinfos"), "-T", "-m", "-c", str(tmp_path / "out.pcapng")]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.split(",")[-1].strip() == str(len(whole_packets(tmp_path / "out.pcapng")))
