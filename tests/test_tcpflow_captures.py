"""tcpflow's letters for more than streams: what finishes them, what belongs to none, captures of each, functions."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import polars as pl
import pytest

import pcap2arrow
from jobs.streams.api import write_streams
from jobs.tcpflow.arguments import read_arguments
from jobs.tcpflow.run import Outcome, run
from queries.streams.rules import Rules
from tests import tcp
from tests.blocks import pcap_header, pcap_record
from tests.conftest import CorpusCapture
from tests.oracles import tcpflow

Tool = Callable[[str], str]

THERE = "010.000.000.001.01234-010.000.000.002.00080"
BACK = "010.000.000.002.00080-010.000.000.001.01234"


def _capture(path: Path, words: str, more: Sequence[bytes] = ()) -> Path:
    tcp.write(path, [each.frame() for each in tcp.segments(words)] + list(more))
    return path


def _frame(protocol: int, payload: bytes, *, fragment: int = 0) -> bytes:
    """A frame of IPv4 from 10.0.0.1 to 10.0.0.2."""
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 1, fragment, 64, protocol, 0)
    addresses = bytes.fromhex("000000000002 000000000001 0800")
    return addresses + head + bytes([10, 0, 0, 1, 10, 0, 0, 2]) + payload


def _ours(folder: Path, *words: str | Path) -> Outcome:
    return run(read_arguments([*map(str, words), "-o", str(folder)]), write=bytes)


def _frames(path: Path) -> list[bytes]:
    table = pcap2arrow.read_capture(path)
    return [
        header + rest
        for header, rest in zip(*(table[name].to_pylist() for name in ("header", "rest")), strict=True)
    ]


FINISHING = """
-r a -R b
-r a -r b
-R b
-R b -r a
-r b -R a
-r a -R b -R c
"""


@pytest.mark.parametrize("line", FINISHING.strip().splitlines())
def test_what_only_finishes_streams(line: str, tmp_path: Path, tool: Tool) -> None:
    captures = {
        "a": _capture(tmp_path / "a", "S:@100 S:@500< hello_@101 WORLD@501<"),
        "b": _capture(tmp_path / "b", "bye@107 F:@110 F:@506< S:@9000 new@9001"),
        "c": _capture(tmp_path / "c", "more@9004 x@506< F:@507<"),
    }
    tcp.write(tmp_path / "b", [each.frame() for each in tcp.segments("bye@107 F:@110 F:@506<")] + [
        tcp.Segment(1, b"other", source=("10.0.0.1", 77)).frame()
    ])  # fmt: skip
    words = [str(captures.get(word, word)) for word in line.split()]
    subprocess.run([tool("tcpflow"), "-o", str(tmp_path / "theirs"), *words], capture_output=True, check=True)
    _ours(tmp_path / "ours", *words)
    theirs, ours = (tcpflow.contents(tmp_path / name) for name in ("theirs", "ours"))
    assert ours == theirs


OTHERS = [
    _frame(17, b"datagram"),
    _frame(6, b"\0" * 8),
    _frame(6, tcp.Segment(5, b"late").frame()[34:], fragment=5),
    _frame(1, b"\x08\0\0\0"),
]
"""Frames of no stream: UDP, a cut header of TCP, a fragment, ICMP."""


def test_what_belongs_to_no_stream(tmp_path: Path, tool: Tool) -> None:
    path = _capture(tmp_path / "a.pcap", "S:@999 abc@1000 S:@5000 def@1003 A:@7<", OTHERS)
    words = ["-r", str(path)]
    subprocess.run(
        [tool("tcpflow"), "-o", str(tmp_path / "t"), *words, "-w", str(tmp_path / "theirs.pcap")], check=True
    )
    _ours(tmp_path / "o", *words, "-w", tmp_path / "ours.pcap")
    assert sorted(_frames(tmp_path / "ours.pcap")) == sorted(_frames(tmp_path / "theirs.pcap"))
    assert len(_frames(tmp_path / "ours.pcap")) == 5
    _ours(tmp_path / "p", *words, "-w", tmp_path / "filtered.pcap", "port 80")
    assert len(_frames(tmp_path / "filtered.pcap")) == 1


UNPADDED = "(ip and ip[0] & 0xf0 = 0x40 and ip[2:2] + 14 = len) or (ip6 and ip6[4:2] + 54 = len)"
"""What tcpflow stores without padding."""


def test_nothing_is_a_capture_too(tmp_path: Path) -> None:
    header = pcap_header("<")[:20] + struct.pack("<I", 101)
    (tmp_path / "empty.pcap").write_bytes(header + pcap_record("<", tcp.Segment(7).frame()[14:], seconds=5))
    _ours(tmp_path / "o", "-r", tmp_path / "empty.pcap", "-w", tmp_path / "none.pcap")
    assert (tmp_path / "none.pcap").read_bytes()[20:] == struct.pack("<I", 101)


def test_what_belongs_to_no_stream_in_the_corpus(
    manifest: list[CorpusCapture], tmp_path: Path, tool: Tool
) -> None:
    compared = packets = 0
    for number, capture in enumerate([each for each in manifest if each.is_capture and each.sound][11::40]):
        theirs, ours = tmp_path / f"{number}.theirs", tmp_path / f"{number}.ours"
        words = ["-r", str(capture.path)]
        done = subprocess.run(
            [tool("tcpflow"), "-o", str(tmp_path / f"t{number}"), *words, "-w", str(theirs), UNPADDED],
            capture_output=True,
        )
        if done.returncode:
            continue
        _ours(tmp_path / f"o{number}", *words, "-w", ours, UNPADDED)
        a, b = (_frames(each) for each in (theirs, ours))
        assert (capture.name, len(b)) == (capture.name, len(a))
        assert sorted(b) == sorted(a)
        compared, packets = compared + 1, packets + len(a)
    assert compared > 8 and packets > 50


def test_a_capture_of_each_stream(tmp_path: Path, tool: Tool) -> None:
    path = _capture(tmp_path / "a.pcap", "S:@100 S:@500< A:@101 hel@101 WORLD@501< F:@104 F:@506<", OTHERS)
    words = ["-r", str(path)]
    subprocess.run([tool("tcpflow"), "-o", str(tmp_path / "t"), *words, "-K"], check=True)
    _ours(tmp_path / "o", *words, "-K")
    files = tcpflow.contents(tmp_path / "o")
    assert set(files) == {THERE, BACK, f"{THERE}.pcap", f"{BACK}.pcap"}
    assert files[THERE] == b"hel"
    for name in (f"{THERE}.pcap", f"{BACK}.pcap"):
        theirs = (tmp_path / "t" / name).read_bytes()
        link_type = struct.unpack_from("<I", theirs, 20)[0]
        assert link_type == 6, "tcpflow writes a link type that is not the packets'"
        assert files[name][20:24] == struct.pack("<I", 1)
        assert files[name][24:] == theirs[24:]


def test_link_types_of_captures(tmp_path: Path) -> None:
    frame = tcp.Segment(7, b"raw").frame()[14:]
    header = pcap_header("<")[:20] + struct.pack("<I", 101)
    (tmp_path / "raw.pcap").write_bytes(header + pcap_record("<", frame, seconds=5, fraction=0))
    _ours(tmp_path / "o", "-r", tmp_path / "raw.pcap", "-K")
    found = pcap2arrow.read_capture(tmp_path / "o" / f"{THERE}.pcap")
    assert found["link_type"].to_pylist() == [101]
    assert _frames(tmp_path / "o" / f"{THERE}.pcap") == [frame]


MODULE = """
def count(octets):
    return f"{len(octets)} octets & <{octets[:1].decode()}>"

def fails(octets):
    if octets.startswith(b"W"):
        raise ValueError("no worlds")
    return len(octets)

def nothing(octets):
    pass
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a module of functions over streams."""
    monkeypatch.setitem(__import__("sys").modules, "over_streams", None)
    __import__("sys").modules.pop("over_streams")
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions" / "over_streams.py").write_text(MODULE)
    return tmp_path / "functions"


def _results(report: Path) -> dict[str, str | None]:
    tag = "{http://afflib.org/tcpflow/}result"
    return {
        Path(each.findtext("filename") or "").name: each.findtext(tag)
        for each in ElementTree.parse(report).getroot().iter("fileobject")
    }


@pytest.mark.parametrize("how", ["settings", "map"])
def test_functions_over_streams(how: str, module: Path, tmp_path: Path) -> None:
    path = _capture(tmp_path / "a.pcap", "hel@101 WORLD@501<")
    if how == "map":
        words = ["--map", "over_streams:count", "-S", f"py_path={module}"]
    else:
        settings = (f"py_path={module}", "py_module=over_streams", "py_function=count")
        words = ["-e", "python", *(word for each in settings for word in ("-S", each))]
    assert _ours(tmp_path / "o", "-r", path, *words).warnings == []
    assert _results(tmp_path / "o" / "report.xml") == {THERE: "3 octets & <h>", BACK: "5 octets & <W>"}


def test_functions_that_fail(module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _capture(tmp_path / "a.pcap", "hel@101 WORLD@501<")
    monkeypatch.chdir(module)
    outcome = _ours(tmp_path / "o", "-r", path, "--map", "over_streams:fails")
    assert outcome.warnings == [f"{BACK}: over_streams:fails: ValueError: no worlds"]
    assert _results(tmp_path / "o" / "report.xml") == {THERE: "3", BACK: None}
    assert set(_results(tmp_path / "o" / "report.xml").values()) == {"3", None}
    report = write_streams(
        [path], rules=Rules(), tables=str(tmp_path / "tables"), function="over_streams:fails"
    )
    assert report.warnings == tuple(outcome.warnings)
    table = pl.read_parquet(tmp_path / "tables" / "streams.parquet")
    assert table["result"].to_list() == ["3", None]


def test_functions_without_results(module: Path, tmp_path: Path) -> None:
    path = _capture(tmp_path / "a.pcap", "hel@101")
    _ours(tmp_path / "o", "-r", path, "--map", "over_streams:nothing", "-S", f"py_path={module}")
    assert _results(tmp_path / "o" / "report.xml") == {THERE: None}
