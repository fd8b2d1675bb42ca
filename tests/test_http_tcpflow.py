"""Bodies of HTTP beside those of ``tcpflow -e http``: cases of the lab, and the corpus."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from jobs.tcpflow.arguments import read_arguments
from jobs.tcpflow.run import run
from pcap2arrow.errors import FilterError
from tests import http_streams
from tests.conftest import CorpusCapture
from tests.http_streams import chunked, response
from tests.oracles import tcpflow
from tests.test_streams_tcpflow import EXCEPTIONS, UNPADDED

Tool = Callable[[str], str]

BODY = b"".join(b"%d hello " % number for number in range(40))
GZIP = gzip.compress(BODY, mtime=0)
ZLIB = zlib.compress(BODY)
LONG = b"".join(b"%d %d\n" % (number * number % 1_000_003, number) for number in range(20_000))
LONG_GZIP = gzip.compress(LONG, mtime=0)
NEXT = response(b"BBBB", "Content-Type: text/plain; charset=utf-8")
ENCODED = "Content-Encoding: gzip"


def _broken(whole: bytes) -> bytes:
    return whole[: len(whole) * 3 // 4] + bytes(40) + whole[len(whole) * 3 // 4 + 40 :]


SAME = {
    "length": response(BODY, "Content-Type: text/html") + NEXT,
    "gzip": response(GZIP, ENCODED, "Content-Type: text/html") + NEXT,
    "deflate": response(ZLIB, "Content-Encoding: deflate") + NEXT,
    "gzip called deflate": response(GZIP, "Content-Encoding: deflate") + NEXT,
    "other case": response(GZIP, "Content-Encoding: GZIP") + NEXT,
    "identity": response(BODY, "Content-Encoding: identity") + NEXT,
    "cut gzip": response(GZIP[:60], ENCODED, "Content-Length: 900", sized=False),
    "chunks": chunked(BODY, "Content-Type: image/png") + NEXT,
    "chunks of gzip": chunked(GZIP, ENCODED, "Content-Type: application/json") + NEXT,
    "single octets of gzip": chunked(GZIP, ENCODED, size=1) + NEXT,
    "two gzips": chunked(GZIP + b"junk", ENCODED) + NEXT,
    "gzip and junk": response(GZIP + b"junk", ENCODED) + NEXT,
    "gzip behind gzip": response(GZIP + GZIP, ENCODED) + NEXT,
    "chunks of gzips": chunked(GZIP + GZIP, ENCODED, size=len(GZIP)) + NEXT,
    "gzip with a wrong sum": response(GZIP[:-8] + b"12345678", ENCODED) + NEXT,
    "zlib with a wrong sum": response(ZLIB[:-4] + b"1234", "Content-Encoding: deflate") + NEXT,
    "broken gzip": response(GZIP[:60] + b"\xff" * 20 + GZIP[80:], ENCODED) + NEXT,
    "broken gzip of several blocks": response(_broken(LONG_GZIP), ENCODED) + NEXT,
    "chunks of broken gzip": chunked(_broken(LONG_GZIP), ENCODED, size=10_000) + NEXT,
    "gzip without a header": response(b"\r\n" + GZIP, ENCODED) + NEXT,
    "trailer": chunked(BODY, end=b"0\r\nX: y\r\n\r\n") + NEXT,
    "no last chunk": chunked(BODY, end=b""),
    "a chunk that is none": chunked(BODY, end=b"zz\r\n") + NEXT,
    "cut chunk": chunked(BODY)[:-60],
    "extension of a chunk": chunked(b"", end=b"4;a=b\r\nabcd\r\n0\r\n\r\n") + NEXT,
    "no chunks": chunked(b"") + NEXT,
    "until the end": response(BODY, sized=False) + NEXT,
    "until the end, gzip": response(GZIP, ENCODED, sized=False),
    "cut": response(BODY[:50], "Content-Length: 900", sized=False),
    "nothing": response(b"") + NEXT,
    "no content": response(b"", status="204 No Content", sized=False) + NEXT,
    "not modified": response(b"", status="304 Not Modified", sized=False) + NEXT,
    "not modified, with a length": response(b"", "Content-Length: 9", status="304 No", sized=False) + NEXT,
    "a length as of HEAD": response(b"", "Content-Length: 99", sized=False) + NEXT + NEXT,
    "continue": response(b"", status="100 Continue", sized=False) + NEXT,
    "switching": response(b"", "Upgrade: x", "Connection: Upgrade", status="101 Sw", sized=False) + NEXT,
    "garbage between": NEXT + b"garbage\r\n" + NEXT,
    "lines between": NEXT + b"\r\n\r\n" + NEXT,
    "two lengths": response(b"AAAA", "Content-Length: 6") + NEXT,
    "length and chunks": response(b"4\r\nabcd\r\n0\r\n\r\n", "Transfer-Encoding: chunked") + NEXT,
    "a length that is none": response(b"AAAA", "Content-Length: 4x", sized=False) + NEXT,
    "lines with LF alone": NEXT.replace(b"\r", b"") + NEXT,
    "folded": response(b"AAAA", "X: a\r\n b") + NEXT,
    "folded behind the length": response(b"", "Content-Length: 4\r\n ", sized=False) + b"AAAA" + NEXT,
    "length in the next line": response(b"", "Content-Length:\r\n\t4", sized=False) + b"AAAA" + NEXT,
    "folded coding": response(GZIP, "Content-Encoding:\r\n gzip\r\n ", "X: y") + NEXT,
    "folded type": response(BODY, "Content-Type: text/html\r\n ;x") + NEXT,
    "folded blanks behind a type": response(BODY, "Content-Type: text/html\r\n ", "X: y") + NEXT,
    "a type in several lines": response(BODY, "Content-Type: text/html\r\n text/css") + NEXT,
    "a coding in several lines": response(GZIP, "Content-Encoding: x\r\n y\r\n gzip") + NEXT,
    "an empty word in a list": response(b"0\r\n\r\n", "Transfer-Encoding: a,,chunked", sized=False) + NEXT,
    "chunks, folded": response(b"0\r\n\r\n", "Transfer-Encoding:\r\n chunked", sized=False) + NEXT,
    "chunks, folded behind": response(b"0\r\n\r\n", "Transfer-Encoding: chunked\r\n ", sized=False) + NEXT,
    "chunks of a list": response(b"0\r\n\r\n", "Transfer-Encoding: gzip, chunked", sized=False) + NEXT,
    "chunks, and a blank": response(b"0\r\n\r\n", "Transfer-Encoding: chunked ", sized=False) + NEXT,
    "chunks, after a comma": response(b"0\r\n\r\n", "Transfer-Encoding:,chunked", sized=False) + NEXT,
    "blank before the colon": response(GZIP, "Content-Encoding : gzip", "X : y") + NEXT,
    "blank before the colon of the length": response(b"", "Content-Length  : 4", sized=False)
    + b"AAAA"
    + NEXT,
    "blank in a name": response(b"AAAA", "X Y: z") + NEXT,
    "blank at the beginning of a name": response(b"AAAA", "X: a", " Y: z") + NEXT,
    "tab in a name": response(b"AAAA", "X\tY: z") + NEXT,
    "no colon": response(b"AAAA", "nonsense") + NEXT,
    "no name": response(b"AAAA", ": nonsense") + NEXT,
    "one digit": response(b"AAAA", status="2 OK") + NEXT,
    "four digits": response(b"AAAA", status="0200 OK") + NEXT,
    "too great a status": response(b"AAAA", status="1200 OK") + NEXT,
    "no digit": response(b"AAAA", status="OK") + NEXT,
    "digits and a letter": response(b"AAAA", status="200a") + NEXT,
    "blanks before the status": response(b"AAAA", status="  200 OK") + NEXT,
    "CR in the status line": response(b"AAAA", status="200 OK\rX: y") + NEXT,
    "CR behind the status": response(b"AAAA", status="200\rX: y") + NEXT,
    "LF and CR": response(b"AAAA", "X: y\n\rZ: a") + NEXT,
    "CR alone, in the end": response(b"AAAA", "X: y\r\n\r\rZ: a") + NEXT,
    "CR in a field": response(b"AAAA", "X: a\rb") + NEXT,
    "CR before a field": response(b"AAAA", "X:\r y") + NEXT,
    "control character in a field": response(b"AAAA", "X: a\x01b") + NEXT,
    "control character at the beginning": response(b"AAAA", "X: \x01b") + NEXT,
    "DEL in a field": response(b"AAAA", "X: a\x7f") + NEXT,
    "octets beyond ASCII": response(b"AAAA", "X: a\x80\xff") + NEXT,
    "tab behind the size of a chunk": chunked(b"", end=b"4\t\r\nabcd\r\n0\r\n\r\n") + NEXT,
    "blank behind the size of a chunk": chunked(b"", end=b"4 \r\nabcd\r\n0\r\n\r\n") + NEXT,
    "CR behind the size of a chunk": chunked(b"", end=b"4\r\r\nabcd\r\n0\r\n\r\n") + NEXT,
    "LF behind the size of a chunk": chunked(b"", end=b"4\nabcd\r\n0\r\n\r\n") + NEXT,
    "no lines between chunks": chunked(b"", end=b"4\r\nabcdxx3\r\nefg\r\n0\r\n\r\n") + NEXT,
    "x-gzip": response(GZIP, "Content-Encoding: x-gzip") + NEXT,
    "HTTP/1.0": NEXT.replace(b"HTTP/1.1", b"HTTP/1.0") + NEXT,
    "HTTP/2.0": NEXT.replace(b"HTTP/1.1", b"HTTP/2.0") + NEXT,
    "80 octets": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX: ".ljust(73, b"y") + b"\r\n\r\nabc",
    "79 octets": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX: ".ljust(72, b"y") + b"\r\n\r\nabc",
    "long head": response(b"AA", f"X: {'y' * 70_000}"),
    "too long a head": response(b"AA", f"X: {'y' * 90_000}"),
    "media types": b"".join(
        response(b"x", f"Content-Type: {each}")
        for each in ("TEXT/HTML", "text/html ;x", "text/css", "application/x-7z-compressed", "un/known", "")
    ),
}
"""What servers send, and tcpflow and this take the same bodies from."""


def _both(tool: str, path: Path, folder: Path, *words: str) -> tuple[dict[str, bytes], dict[str, bytes]]:
    theirs = tcpflow.files(tool, path, folder / "theirs", *words)
    assert theirs is not None
    outcome = run(read_arguments(["-r", str(path), "-o", str(folder / "ours"), *words]), write=bytes)
    assert outcome.errors == ()
    return theirs, tcpflow.contents(folder / "ours")


@pytest.mark.parametrize("options", [(), ("-Z",), ("-b", "300")])
def test_the_same_bodies(options: tuple[str, ...], tmp_path: Path, tool: Tool) -> None:
    path = http_streams.write(tmp_path / "http.pcap", [(b"", each) for each in SAME.values()])
    theirs, ours = _both(tool("tcpflow"), path, tmp_path, "-e", "http", *options)
    titles = {f"{1001 + number:05}": title for number, title in enumerate(SAME)}
    differing = [name for name in theirs.keys() | ours if theirs.get(name) != ours.get(name)]
    streams = {name: octets for name, octets in ours.items() if "HTTPBODY" not in name}
    repeated = {name for name, octets in streams.items() if list(streams.values()).count(octets) > 1}
    assert [titles[_stream(name)[-5:]] for name in differing if _stream(name) not in repeated] == []
    if not options:
        assert sum("HTTPBODY" in name for name in ours) > 50
        runs = [_byte_runs(tmp_path / side / "report.xml") for side in ("theirs", "ours")]
        assert runs[1] == runs[0]
        assert sum(runs[0].values()) > 50


def _stream(name: str) -> str:
    return name.partition("-HTTPBODY-")[0]


def _byte_runs(report: Path) -> Counter[tuple[object, ...]]:
    """Where bodies begin in streams, and their names and sizes."""
    return Counter(
        (
            Path(each.findtext("filename") or "").name,
            place.get("file_offset"),
            Path(place.findtext("fileobject/filename") or "").name,
            place.findtext("fileobject/filesize"),
        )
        for each in ElementTree.parse(report).getroot().iter("fileobject")
        for place in each.iterfind("byte_runs/byte_run")
    )


def test_more_than_tcpflow_decodes(tmp_path: Path) -> None:
    raw = zlib.compressobj(wbits=-15)
    deflated = raw.compress(BODY) + raw.flush()
    answers = [response(deflated, "Content-Encoding: deflate")]
    request = http_streams.request("POST", "/", b"asked")
    path = http_streams.write(tmp_path / "http.pcap", [(request, each) for each in answers])
    run(read_arguments(["-r", str(path), "-o", str(tmp_path / "o"), "-e", "http"]), write=bytes)
    found = {name: octets for name, octets in tcpflow.contents(tmp_path / "o").items() if "HTTPBODY" in name}
    asked = [octets for name, octets in sorted(found.items()) if name.startswith("010.000.000.001")]
    answered = [octets for name, octets in sorted(found.items()) if name.startswith("010.000.000.002")]
    assert asked == [b"asked"]
    assert answered == [BODY]


def _differences() -> dict[str, str]:
    """Captures of which bodies differ, and why."""
    lines = (Path(__file__).parent / "streams" / "http.tsv").read_text().splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return {name: reason for name, reason in rows}  # noqa: C416


DIFFERENCES = EXCEPTIONS | _differences()


def _compare_corpus(captures: list[CorpusCapture], tool: str, folder: Path) -> tuple[int, int, int]:
    """Compare files with ``-e http``; how many captures, bodies and excepted captures that were."""
    compared = bodies = excepted = requests = repeated = 0
    different: dict[str, list[str]] = {}
    for number, capture in enumerate(captures):
        words = ("-e", "http", UNPADDED)
        theirs = tcpflow.files(tool, capture.path, folder / "theirs", *words)
        if theirs is None:
            continue
        here = folder / str(number)
        try:
            run(read_arguments(["-r", str(capture.path), "-o", str(here), *words]), write=bytes)
            ours = tcpflow.contents(here)
        except FilterError:
            ours = {}  # of a link type on which the expression means nothing
        compared, bodies = compared + 1, bodies + sum("-HTTPBODY-" in name for name in theirs)
        names = [name for name in theirs.keys() | ours if theirs.get(name) != ours.get(name)]
        same = Counter(octets for name, octets in ours.items() if "-HTTPBODY-" not in name)
        for name in list(names):
            stream = ours.get(_stream(name), b"")
            if name not in theirs and not stream.startswith(b"HTTP/1."):
                requests += 1
            elif name not in theirs and same[stream] > 1:  # tcpflow looks at equal streams once
                repeated += 1
            else:
                continue
            names.remove(name)
        excepted += bool(names) and capture.name in DIFFERENCES
        if names and capture.name not in DIFFERENCES:
            different[capture.name] = sorted(names)
    print(
        f"\n{compared} captures, {bodies} bodies; {excepted} captures excepted; {requests} bodies of requests and "
        f"{repeated} of equal streams more; different: {different or 'none'}"
    )
    assert different == {}
    return compared, bodies, excepted


def test_a_sample_of_the_corpus(manifest: list[CorpusCapture], tool: Tool, tmp_path: Path) -> None:
    captures = [each for each in manifest if each.is_capture]
    likely = [each for each in captures if "http" in each.name or "web" in each.name]
    compared, bodies, _ = _compare_corpus(captures[7::90] + likely[::14], tool("tcpflow"), tmp_path)
    assert compared > 40 and bodies > 20


@pytest.mark.long
def test_the_corpus(manifest: list[CorpusCapture], tool: Tool, tmp_path: Path) -> None:
    captures = [each for each in manifest if each.is_capture]
    compared, bodies, excepted = _compare_corpus(captures, tool("tcpflow"), tmp_path)
    assert compared > 1800 and bodies > 1000
    assert excepted < compared / 20
