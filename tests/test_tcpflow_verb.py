"""``pcap2arrow tcpflow`` beside tcpflow: files, report, what is printed, and what is refused."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pcap2arrow
from jobs.streams.api import write_streams
from jobs.tcpflow.arguments import read_arguments
from jobs.tcpflow.run import run
from pcap2arrow.errors import FilterError, UsageError
from queries.streams.rules import SKIP, Rules
from tests import commands, http_streams, tcp
from tests.conftest import CorpusCapture
from tests.oracles import tcpflow
from tests.test_streams_tcpflow import EXCEPTIONS, TINY, UNPADDED, random_frames

Tool = Callable[[str], str]

ONE = (
    "S:@100 S:@500< A:@101 hel\x01lo@101 WORLD@501< bye@107 F:@110 F:@506< A:@111 "
    "S:@9000 S:@7000< two@9001 too@7001< R:@9004 R:@7004<"
)
"""Two connections of the same endpoints."""


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """Two connections between the same endpoints, and one of IPv6 in a VLAN."""
    six = tcp.Segment(7, bytes(range(40)), source=("2001:db8::1", 1234), destination=("fe80::2", 80))
    path = tmp_path / "one.pcap"
    tcp.write(path, [each.frame() for each in tcp.segments(ONE)] + [six.frame(tags=[(0x8100, 5)])])
    return path


def _ours(words: list[str], folder: Path) -> bytes:
    """Do it, in that folder; what was printed."""
    printed: list[bytes] = []
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert run(read_arguments(words), write=printed.append).errors == ()
    finally:
        os.chdir(before)
    return b"".join(printed)


def _both(tool: str, words: list[str], folder: Path) -> tuple[bytes, bytes]:
    """Run both, each in a folder of its own; what they printed."""
    for name in ("theirs", "ours"):
        (folder / name).mkdir()
    done = subprocess.run([tool, *words], cwd=folder / "theirs", capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, _ours(words, folder / "ours")


FILES = """
-o out
-o out -T %A/%a/%B/%b/%c%N.flow
-o out -T %T_%t_%A
-o out -T %E-%e-%V%v-%#-%%-%C%c
-o out -T %S-%N-%K-%M-%G
-o out -T x%c
-o out -T x
-o out -Ft
-o out -FT
-o out -Fk
-o out -Fm
-o out -Fg
-o out -Fkt
-o out -FX
-o out -FM
-o out -b 4
-o out -b 0
-o out -m 5
-o out -X other.xml
-o out -S tdelta=3600 -Ft
-o out -S enable_report=0
-o out -q -s -D -J -B -d 3
-o out -x tcpdemux
-o out -E md5
-o out port 1234 and ip
"""


@pytest.mark.parametrize("line", FILES.strip().splitlines())
def test_files(line: str, capture: Path, tmp_path: Path, tool: Tool) -> None:
    _both(tool("tcpflow"), ["-r", str(capture), *line.split()], tmp_path)
    theirs, ours = (tcpflow.contents(tmp_path / name) for name in ("theirs", "ours"))
    assert set(ours) == set(theirs)
    assert {name: octets for name, octets in ours.items() if name != "other.xml"} == {
        name: octets for name, octets in theirs.items() if name != "other.xml"
    }
    reports = [tmp_path / name / "out" / "report.xml" for name in ("theirs", "ours")]
    assert reports[0].exists() == reports[1].exists()
    if reports[0].exists() and "-FX" not in line:  # without files, tcpflow finds no end of streams
        assert tcpflow.without_md5(tcpflow.file_objects(reports[1])) == tcpflow.without_md5(
            tcpflow.file_objects(reports[0])
        )


INPUTS = """
gzip     | -r a.gz
bzip2    | -r a.bz2
xz       | -r a.xz
pcapng   | -r a.pcapng
twice    | -r a -r b
words    | -l a b
the pipe | -r -
"""


@pytest.mark.parametrize("line", INPUTS.strip().splitlines())
def test_inputs(line: str, capture: Path, tmp_path: Path, tool: Tool) -> None:
    words = line.partition("|")[2].split()
    pcap2arrow.export([str(capture)], tmp_path / "a.pcapng", format="pcapng")
    octets = capture.read_bytes()
    (tmp_path / "a").write_bytes(octets)
    tcp.write(tmp_path / "b", [tcp.Segment(5, b"more", source=("10.0.0.1", 77)).frame()])
    for name, compress in (("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)):
        (tmp_path / f"a.{name}").write_bytes(compress(octets))
    command = [tool("tcpflow"), "-o", "theirs", *words]
    subprocess.run(command, cwd=tmp_path, input=octets, capture_output=True, check=True)
    ours = [sys.executable, "-m", "jobs.cli", "tcpflow", "-o", "ours", *words]
    if words[-1] == "-":
        subprocess.run(ours, cwd=tmp_path, input=octets, capture_output=True, check=True)
    else:
        _ours(["-o", "ours", *words], tmp_path)
    assert tcpflow.contents(tmp_path / "ours") == tcpflow.contents(tmp_path / "theirs")


def test_streams_that_ended_long_ago_are_forgotten(tmp_path: Path, tool: Tool) -> None:
    ports = range(2000, 2150)
    opened = [
        tcp.Segment(seq, data, flags, ("10.0.0.1", port)).frame()
        for port in ports
        for seq, data, flags in ((999, b"", 2), (1000, b"abc", 17))
    ]
    again = [tcp.Segment(1000, b"abc", 17, ("10.0.0.1", port)).frame() for port in ports]
    tcp.write(tmp_path / "a.pcap", opened + again)
    _both(tool("tcpflow"), ["-r", str(tmp_path / "a.pcap"), "-o", "out"], tmp_path)
    theirs, ours = (tcpflow.contents(tmp_path / name / "out") for name in ("theirs", "ours"))
    assert ours == theirs
    assert sum(name.endswith("c1") for name in ours) == 150


SCANNERS = """
-a                     | http md5
-e http -e md5         | http md5
-e http -x http        |
-e md5 -E http         | http
-e netviz -e wifiviz   |
-FM                    | md5
--map m:f              | python
"""


@pytest.mark.parametrize("line", SCANNERS.strip().splitlines())
def test_scanners(line: str) -> None:
    words, scanners = (part.split() for part in line.split("|"))
    arguments = read_arguments(["-r", "a", *words])
    assert sorted(arguments.scanners) == scanners
    assert arguments.following == ("-E" not in words)


WITHOUT_EFFECT = (
    "-f 9 | -L lock | -p | -P | -Q 1 | -U user | -z dir | -S tcp_cmd=x | -S tcp_timeout=3 | -e netviz"
)


@pytest.mark.parametrize("words", WITHOUT_EFFECT.split(" | "))
def test_letters_that_do_nothing_say_so(words: str) -> None:
    [warning] = read_arguments(["-r", "a", *words.split()]).warnings
    assert "does nothing here" in warning


PRINTED = """
-c
-C
-c -B
-C -B
-C -B -0
-c -D
-C -D
-c -g
-c -s
-c -b 4
-c -o out
-c -T %A-%B
"""


@pytest.mark.parametrize("line", PRINTED.strip().splitlines())
def test_what_is_printed(line: str, capture: Path, tmp_path: Path, tool: Tool) -> None:
    theirs, ours = _both(tool("tcpflow"), ["-r", str(capture), *line.split()], tmp_path)
    assert ours == theirs


def test_octets_are_printed_in_the_order_of_their_streams(tmp_path: Path) -> None:
    """Early ones wait for those before them, holes for nothing; what is printed of a stream is its file."""
    segments = "S:@100 def@104 hi@501< abc@101 abc@101 mno@120 yo@503< jkl@110 ghi@107 pq@130 r@132"
    tcp.write(tmp_path / "a.pcap", [each.frame() for each in tcp.segments(segments)])
    lines = _ours(["-r", "a.pcap", "--ordered"], tmp_path).decode().splitlines()
    assert [line.partition(": ")[2] for line in lines] == ["hi", "abcdef", "yo", "ghijklmno", "pq", "r"]
    assert _ours(["-r", "a.pcap", "--ordered", "-C", "-b", "4"], tmp_path) == b"hi\nabcd\nyo\n"
    tcp.write(tmp_path / "b.pcap", random_frames(8))
    _ours(["-r", "b.pcap", "-o", "files"], tmp_path)
    printed: list[bytes] = []
    words = ["-r", str(tmp_path / "b.pcap"), "--ordered", "-B", "-0", "-S", "enable_report=0"]
    run(read_arguments(words), write=printed.append)
    said: dict[str, bytes] = {}
    for each in printed:
        name, _, octets = each.partition(b": ")
        said[name.decode()] = said.get(name.decode(), b"") + octets
    files = tcpflow.contents(tmp_path / "files")
    assert said.keys() == {name for name, octets in files.items() if octets}
    assert all(said[name] == files[name] or b"\0" in files[name] for name in said)


def test_json_has_the_right_hosts(capture: Path, tmp_path: Path) -> None:
    lines = _ours(["-r", str(capture), "-J", "-c"], tmp_path).decode().splitlines()
    assert lines[0] == (
        '{"src_host":"10.0.0.1","src_port":1234,"dst_host":"10.0.0.2","dst_port":80,'
        '"payload": [104,101,108,1,108,111]}'
    )
    assert '"src_host":"2001:db8::1"' in lines[-1]


def test_md5_is_in_the_report(capture: Path, tmp_path: Path) -> None:
    _ours(["-r", str(capture), "-o", "out", "-e", "md5"], tmp_path)
    objects = tcpflow.file_objects(tmp_path / "out" / "report.xml")
    assert len(objects) == 5
    for name, _, _, digest in objects:
        assert hashlib.md5((tmp_path / str(name)).read_bytes()).hexdigest() == digest


def test_every_name_is_counted_if_asked(capture: Path, tmp_path: Path) -> None:
    _ours(["-r", str(capture), "-o", "out", "-Fc", "host 10.0.0.1"], tmp_path)
    there, back = "010.000.000.001.01234-010.000.000.002.00080", "010.000.000.002.00080-010.000.000.001.01234"
    assert set(tcpflow.contents(tmp_path / "out")) == {
        f"{name}c{k}" for name in (there, back) for k in (0, 1)
    }


def test_the_index_has_every_segment(tmp_path: Path, tool: Tool) -> None:
    tcp.write(
        tmp_path / "a.pcap",
        [each.frame() for each in tcp.segments("S:@999 abc@1000 ghi@1006 def@1003 zz@1020")],
    )
    _both(tool("tcpflow"), ["-r", str(tmp_path / "a.pcap"), "-o", "out", "-I"], tmp_path)
    theirs, ours = (tcpflow.contents(tmp_path / name / "out") for name in ("theirs", "ours"))
    assert set(ours) == set(theirs)
    [index] = [name for name in ours if name.endswith(".findx")]
    assert ours[index].replace(b"000|", b"|") == theirs[index]  # nanoseconds


def test_files_that_are_there_are_counted(capture: Path, tmp_path: Path, tool: Tool) -> None:
    words = ["-r", str(capture), "-o", "out"]
    _both(tool("tcpflow"), words, tmp_path)
    subprocess.run([tool("tcpflow"), *words], cwd=tmp_path / "theirs", capture_output=True, check=True)
    _ours(words, tmp_path / "ours")
    theirs, ours = (tcpflow.contents(tmp_path / name / "out") for name in ("theirs", "ours"))
    assert ours == theirs
    assert len(ours) == 10


@pytest.mark.parametrize("seed", range(4))
def test_reports_of_random_flows(
    seed: int, tmp_path: Path, tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture = tmp_path / "random.pcap"
    tcp.write(capture, random_frames(seed))
    options = ([], ["-m", "10"], ["-b", "7"], [])[seed]
    _both(tool("tcpflow"), ["-r", str(capture), "-o", "out", *options], tmp_path)
    (tmp_path / "parted").mkdir()
    monkeypatch.chdir(tmp_path / "parted")
    rules = Rules(skip=10 if seed == 1 else SKIP, limit=7 if seed == 2 else None, as_tcpflow=True)
    write_streams([capture], rules=rules, folder="out", report="out/report.xml", workers=2, sizes=TINY)
    theirs, ours, parted = (tmp_path / name / "out" / "report.xml" for name in ("theirs", "ours", "parted"))
    assert tcpflow.without_md5(tcpflow.file_objects(ours)) == tcpflow.without_md5(
        tcpflow.file_objects(theirs)
    )
    assert sum(tcpflow.file_objects(ours).values()) > 90
    assert tcpflow.counts(ours) == tcpflow.counts(theirs)
    assert _without_usage(parted) == _without_usage(ours), "buckets make no difference, in order neither"


def test_scanners_and_indexes_in_many_buckets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MD5, bodies and indexes are the same whatever else is in a bucket; of flows in which order decides, too."""
    capture = tmp_path / "mixed.pcap"
    spoken = [
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + bytes([n]) * 99)
        for n in range(20)
    ]
    http_streams.write(capture, spoken)
    octets = capture.read_bytes()
    tcp.write(capture, random_frames(0))
    capture.write_bytes(capture.read_bytes() + octets[24:])
    for name in ("whole", "parted"):
        (tmp_path / name).mkdir()
    _ours(["-r", str(capture), "-o", "out", "-a", "-I"], tmp_path / "whole")
    monkeypatch.chdir(tmp_path / "parted")
    wanted = {"hashes": True, "with_http": True, "index": True, "report": "out/report.xml"}
    rules = Rules(as_tcpflow=True)
    write_streams([capture], rules=rules, folder="out", workers=2, sizes=TINY, **wanted)  # type: ignore[arg-type]
    whole, parted = (tcpflow.contents(tmp_path / name / "out") for name in ("whole", "parted"))
    reports = [tmp_path / name / "out" / "report.xml" for name in ("whole", "parted")]
    assert whole == parted and sum("HTTPBODY" in name for name in whole) == 20
    assert sum(name.endswith(".findx") for name in whole) > 100
    assert _without_usage(reports[0]) == _without_usage(reports[1])


def test_times_are_shifted(capture: Path, tmp_path: Path, tool: Tool) -> None:
    _both(tool("tcpflow"), ["-r", str(capture), "-o", "out", "-S", "tdelta=3600"], tmp_path)
    theirs, ours = (
        tcpflow.file_objects(tmp_path / name / "out" / "report.xml") for name in ("theirs", "ours")
    )
    assert tcpflow.without_md5(ours) == tcpflow.without_md5(theirs) and len(ours) > 2


def _without_usage(report: Path) -> str:
    return report.read_text().partition("<rusage>")[0]


def _compare_reports(captures: list[CorpusCapture], tool: str, folder: Path, least: int) -> None:
    compared, different = 0, []
    for number, capture in enumerate(captures):
        here = folder / str(number)
        here.mkdir()
        words = ["-r", str(capture.path), "-o", "out", UNPADDED]
        done = subprocess.run([tool, *words], cwd=here, capture_output=True)
        if done.returncode or capture.name in EXCEPTIONS | OVERFLOWING or not capture.sound:
            continue
        theirs = tcpflow.without_md5(tcpflow.file_objects(here / "out" / "report.xml"))
        (here / "ours").mkdir()
        try:
            _ours(words, here / "ours")
        except FilterError:
            assert not theirs
            continue
        compared += 1
        if tcpflow.without_md5(tcpflow.file_objects(here / "ours" / "out" / "report.xml")) != theirs:
            different.append(capture.name)
    print(f"\nreports of {compared} captures; different: {different or 'none'}")
    assert not different
    assert compared >= least


def test_reports_of_a_sample_of_the_corpus(manifest: list[CorpusCapture], tmp_path: Path, tool: Tool) -> None:
    _compare_reports([each for each in manifest if each.is_capture][::45], tool("tcpflow"), tmp_path, 30)


@pytest.mark.long
def test_reports_of_the_corpus(manifest: list[CorpusCapture], tmp_path: Path, tool: Tool) -> None:
    _compare_reports([each for each in manifest if each.is_capture], tool("tcpflow"), tmp_path, 1500)


OVERFLOWING = {
    f"tcpreplay/test2.replay_{kind}": "fractions of more than a second, which tcpflow prints as they are"
    for kind in ("exclude", "include", "unique_ip")
}
"""Captures of which the times in reports differ, and why."""

REFUSED = """
-o out                       | no capture to read
-i eth0                      | no live capture
-r a -e python               | expected --map
-r a -e python -S py_module=os | expected a function as
-r a --map nothing           | expected a function as
-r a --map no.such:function  | ModuleNotFoundError
-r a --map os:no_function    | AttributeError
-r a --map os:name           | found str
-r a -e nonsense             | no such scanner
-r a -FZ                     | invalid option
-r a -T %Z                   | no code
-r a -T ../%A                | lead out
-r a -y                      | not recognized
-r a -FX -e md5              | requires storing output
-r a -S tdelta=x             | a number of seconds
"""


@pytest.mark.parametrize("line", REFUSED.strip().splitlines())
def test_refusals(line: str, tmp_path: Path) -> None:
    words, reason = (part.strip() for part in line.split("|"))
    with pytest.raises(UsageError, match=reason):
        _ours(words.split(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_verb(capture: Path, tmp_path: Path) -> None:
    done = commands.run("tcpflow", "-C", "-r", capture, "host 10.0.0.2", "-f", "7", cwd=tmp_path)
    assert done.stdout.splitlines() == ["hel.lo", "WORLD", "bye", "two", "too"]
    assert "-f does nothing" in done.stderr
    assert commands.run("tcpflow", "-V", code=1).stdout.startswith("pcap2arrow ")
    assert "syntax error" in commands.run("tcpflow", "-r", capture, "tcp (", code=1, cwd=tmp_path).stderr
    pcap2arrow.convert([capture], tmp_path / "dataset")
    commands.run("tcpflow", "-r", tmp_path / "dataset", "-o", tmp_path / "out")
    assert len(tcpflow.contents(tmp_path / "out")) == 5
