"""HTTP of streams: what belongs together, the table of transactions, and what hostile servers send."""

from __future__ import annotations

import gzip
import hashlib
import resource
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import brotli
import polars as pl
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from jobs.streams.api import StreamsReport, write_streams
from queries.http.bodies import LEAST, RATIO
from queries.http.decoding import DecodingError, decoded
from queries.http.messages import MOST_MESSAGES, Reading
from queries.streams.rules import Rules
from tests import commands, http_streams, tcp
from tests.http_streams import chunked, request, response
from tests.oracles import tcpflow

BODY = b"".join(b"%d hello " % number for number in range(400))


def _extracted(folder: Path, *connections: tuple[bytes, bytes]) -> tuple[pl.DataFrame, dict[str, bytes]]:
    """The table of transactions, and the bodies, by the ends of their names."""
    path = http_streams.write(folder / "http.pcap", connections)
    _write(path, folder)
    files = tcpflow.contents(folder / "files")
    bodies = {name[-11:]: octets for name, octets in files.items() if "HTTPBODY" in name}
    return pl.read_parquet(folder / "tables" / "http.parquet"), bodies


def _write(path: Path, folder: Path) -> StreamsReport:
    return write_streams(
        [path], rules=Rules(), folder=str(folder / "files"), tables=str(folder / "tables"), with_http=True
    )


def test_a_transaction(tmp_path: Path) -> None:
    answer = response(gzip.compress(BODY), "Content-Encoding: gzip", "Content-Type: text/html")
    asked = request("POST", "/a?b", b"question", "Content-Type: application/json")
    table, _ = _extracted(tmp_path, (asked, answer))
    [row] = table.to_dicts()
    there, back = "010.000.000.001.01001-010.000.000.002.00080", "010.000.000.002.00080-010.000.000.001.01001"
    assert row | {"time": None, "response_time": None} == {
        "time": None,
        "response_time": None,
        "connection": 0,
        "community_id": "1:p7phLF9koGoF9Aa74dAzr3q6KcI=",
        "client": "10.0.0.1",
        "client_port": 1001,
        "server": "10.0.0.2",
        "server_port": 80,
        "method": "POST",
        "host": "example.org",
        "path": "/a?b",
        "status": 200,
        "request_stream": 0,
        "request_name": there,
        "request_offset": asked.index(b"question"),
        "request_content_type": "application/json",
        "request_content_encoding": None,
        "request_octets": 8,
        "request_size": 8,
        "request_sha256": hashlib.sha256(b"question").hexdigest(),
        "request_body": f"{there}-HTTPBODY-001.json",
        "request_problem": None,
        "response_stream": 1,
        "response_name": back,
        "response_offset": answer.index(b"\r\n\r\n") + 4,
        "response_content_type": "text/html",
        "response_content_encoding": "gzip",
        "response_octets": len(gzip.compress(BODY)),
        "response_size": len(BODY),
        "response_sha256": hashlib.sha256(BODY).hexdigest(),
        "response_body": f"{back}-HTTPBODY-001.html",
        "response_problem": None,
    }
    assert (row["response_time"] - row["time"]).total_seconds() == pytest.approx(0.003)
    assert (tmp_path / "files" / row["response_body"]).read_bytes() == BODY


def test_requests_meet_their_responses(tmp_path: Path) -> None:
    asked = [
        request("HEAD", "/head"),
        request("POST", "/continue", b"x" * 10, "Expect: 100-continue"),
        request("GET", "/unchanged"),
        request("GET", "/nothing"),
        request("GET", "/chunks"),
        request("GET", "/close"),
        request("GET", "/unanswered"),
    ]
    answers = [
        response(b"", "Content-Length: 1000", sized=False),
        response(b"", status="100 Continue", sized=False) + response(b"done"),
        response(b"", "Content-Length: 50", status="304 Not Modified", sized=False),
        response(b"", status="204 No Content", sized=False),
        chunked(BODY),
        response(b"rest" * 5, "Connection: close", sized=False),
    ]
    table, bodies = _extracted(tmp_path, (b"".join(asked), b"".join(answers)))
    assert table.select("path", "status", "response_size").rows() == [
        ("/head", 200, 0),
        ("/continue", 200, 4),
        ("/unchanged", 304, 0),
        ("/nothing", 204, 0),
        ("/chunks", 200, len(BODY)),
        ("/close", 200, 20),
        ("/unanswered", None, None),
    ]
    assert bodies["TTPBODY-003"] == b"done" and bodies["TTPBODY-006"] == BODY
    assert table["response_problem"].null_count() == len(table)


def test_tunnels_and_other_protocols_end_http(tmp_path: Path) -> None:
    connect = request("CONNECT", "example.org:443"), response(b"", sized=False) + b"\x16\x03\x01tls" * 9
    upgrade = (
        request("GET", "/chat", b"", "Upgrade: websocket"),
        (response(b"", "Upgrade: websocket", status="101 Switching", sized=False) + b"\x81\x05hello"),
    )
    table, bodies = _extracted(tmp_path, connect, upgrade)
    assert table.select("method", "status").rows() == [("CONNECT", 200), ("GET", 101)]
    assert bodies == {}


def test_reading_goes_on_behind_what_is_missing_or_wrong(tmp_path: Path) -> None:
    first, last = response(BODY), response(b"second")
    octets = first + b"garbage" + last + b"HTTP/1.1 200 OK\r\nno field\r\n\r\n" + last
    segments = http_streams.segments(octets, client=1001, back=True)
    del segments[2]  # of the first body
    tcp.write(tmp_path / "http.pcap", [each.frame() for each in segments])
    _write(tmp_path / "http.pcap", tmp_path)
    files = tcpflow.contents(tmp_path / "files")
    found = [octets for name, octets in sorted(files.items()) if "HTTPBODY" in name]
    assert len(found[0]) == len(BODY) and found[0].count(b"\0") == 1000
    assert found[1:] == [b"second", b"second"]


def test_a_response_without_its_request(tmp_path: Path) -> None:
    table, _ = _extracted(tmp_path, (b"", response(b"alone")))
    assert table.select("method", "status", "client", "server_port").rows() == [(None, 200, "10.0.0.1", 80)]
    assert table["time"].equals(table["response_time"])


def test_a_request_that_was_picked_up_late(tmp_path: Path) -> None:
    asked = b"\0" + request("GET", "/late") + request("GET", "/second")
    table, _ = _extracted(tmp_path, (asked, response(b"one") + response(b"two")))
    assert table.select("path", "response_size").rows() == [("/late", 3), ("/second", 3)]


def test_no_http(tmp_path: Path) -> None:
    table, bodies = _extracted(
        tmp_path, (b"EHLO there\r\n", b"250 fine\r\n"), (b"GET nothing\r\n", b"HTTP/1.1")
    )
    assert len(table) == 0 and bodies == {}
    assert "response_sha256" in table.columns


def _deflated(octets: bytes) -> bytes:
    state = zlib.compressobj(wbits=-15)
    return state.compress(octets) + state.flush()


ENCODERS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}


@given(
    st.binary(max_size=3000), st.lists(st.sampled_from([*ENCODERS, "raw"]), max_size=2), st.integers(1, 500)
)
def test_what_was_encoded_is_decoded(octets: bytes, encodings: list[str], size: int) -> None:
    encoded = octets
    for name in encodings:
        encoded = _deflated(encoded) if name == "raw" else ENCODERS[name](encoded)
    names = ["deflate" if name == "raw" else name for name in encodings]
    pieces = [memoryview(encoded)[at : at + size] for at in range(0, len(encoded), size)]
    if "raw" in encodings and (not octets or _looks_framed(encoded)):
        return  # nothing tells it from zlib's
    assert b"".join(decoded(pieces, names)) == octets


def _looks_framed(octets: bytes) -> bool:
    return octets[0] & 15 == 8 and int.from_bytes(octets[:2]) % 31 == 0


@pytest.mark.parametrize("encoding", ENCODERS)
def test_what_is_cut_is_decoded_up_to_there(encoding: str) -> None:
    whole = ENCODERS[encoding](BODY * 50)
    found = _decoded_up_to_an_error(memoryview(whole)[: len(whole) * 9 // 10], encoding)
    assert BODY.startswith(found[: len(BODY)])
    assert encoding == "zstd" or found


def test_what_follows_gzip_and_what_is_broken() -> None:
    """tcpflow loses these; here what can be decoded is."""
    whole = gzip.compress(BODY, mtime=0)
    half = len(whole) // 2
    broken = whole[:half] + b"\xff" * 20 + whole[half + 20 :]
    names = {"junk": whole + b"junk", "twice": whole * 2, "sum": whole[:-8] + bytes(8), "broken": broken}
    found = {name: _decoded_up_to_an_error(memoryview(octets), "gzip") for name, octets in names.items()}
    assert (found["junk"], found["twice"], found["sum"]) == (BODY, BODY * 2, BODY)
    assert found["broken"][:400] == BODY[:400]


def _decoded_up_to_an_error(octets: memoryview, encoding: str) -> bytes:
    found = bytearray()
    with suppress(DecodingError):
        for piece in decoded([octets], [encoding]):
            found += piece
    return bytes(found)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.binary(max_size=20))
def test_chunks_are_found_again(chunks: list[bytes], after: bytes) -> None:
    framed = b"".join(b"%x;a=b\r\n%s\r\n" % (len(each), each) for each in chunks) + b"0\r\nA: b\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    octets = memoryview(head + framed + after)
    message = next(Reading("response").messages(octets))
    assert b"".join(message.pieces(octets)) == b"".join(chunks)
    assert message.end == len(head + framed) and message.problem is None


@given(st.binary(max_size=300), st.sampled_from(["request", "response"]), st.booleans())
def test_anything_can_be_read(octets: bytes, kind: Any, as_tcpflow: bool) -> None:
    data = memoryview(
        b"HTTP/1.1 200 OK\r\n" + octets if kind == "response" else b"GET / HTTP/1.1\r\n" + octets
    )
    last = 0
    for message in Reading(kind, as_tcpflow=as_tcpflow).messages(data):
        assert last <= message.start < message.body <= message.end <= len(data)
        last = message.end
        assert sum(map(len, message.pieces(data))) == message.size


def _bomb(encoding: str) -> bytes:
    """64 MB, in few octets."""
    zeros = bytes(64 << 20)
    return brotli.compress(zeros, quality=3) if encoding == "br" else ENCODERS[encoding](zeros)


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_bombs_stop(encoding: str, tmp_path: Path) -> None:
    bomb = _bomb(encoding)
    path = http_streams.write(
        tmp_path / "http.pcap", [(b"", response(bomb, f"Content-Encoding: {encoding}") + response(b"next"))]
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = _write(path, tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10
    [warning] = report.warnings
    assert "body 1: decodes to more than 100 times its stream: the rest is left out" in warning
    table = pl.read_parquet(tmp_path / "tables" / "http.parquet")
    size = table["response_size"][0]
    assert LEAST <= size <= LEAST + RATIO * (len(bomb) + 1000)
    files = {name: len(octets) for name, octets in tcpflow.contents(tmp_path / "files").items()}
    assert sorted(files.values())[-1] == size
    assert table["response_size"].to_list()[1] == 4


def test_holes_cost_nothing(tmp_path: Path) -> None:
    start, far = response(b"", sized=False), 15_000_000
    segments = http_streams.segments(start, client=1001, back=True)[:-1]
    places = [100 + len(start) + far, 100 + len(start) + 2 * far]
    segments += [tcp.Segment(place, b"end", 16, http_streams.SERVER, ("10.0.0.1", 1001)) for place in places]
    tcp.write(tmp_path / "http.pcap", [each.frame() for each in segments])
    [warning] = _write(tmp_path / "http.pcap", tmp_path).warnings
    assert "more than 16777216 octets are missing" in warning
    [body] = (tmp_path / "files").glob("*HTTPBODY*")
    assert body.stat().st_size == far + 3
    assert body.stat().st_blocks * 512 < 1 << 20
    assert body.read_bytes() == bytes(far) + b"end"


def test_many_bombs_of_one_stream_stop_together(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(4 << 20), 9)
    answers = response(bomb, "Content-Encoding: gzip") * 20
    table, _ = _extracted(tmp_path, (b"", answers))
    assert table["response_size"].sum() <= LEAST + RATIO * len(answers)
    assert table["response_problem"].null_count() < len(table)


def test_tiny_responses_without_end() -> None:
    octets = memoryview(b"HTTP/1.1 204 OK\r\n\r\n" * 1_000_000)
    reading = Reading("response")
    began = time.process_time()
    assert sum(1 for _ in reading.messages(octets)) == MOST_MESSAGES
    assert time.process_time() - began < 10
    assert reading.problem == f"more than {MOST_MESSAGES} messages: the rest is left out"


def test_chunks_and_heads_without_end() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    endless = {
        "tiny chunks": head + b"1\r\nx\r\n" * 300_000,
        "size of a chunk": head + b"0" * 3_000_000,
        "digits": head + b"f" * 3_000_000,
        "extension": head + b"1;" + b"x" * 3_000_000,
        "trailer": head + b"0\r\n" + b"A: b\r\n" * 500_000,
        "head": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500_000,
        "heads": b"HTTP/1.1 200 OK\r\n" * 30_000,
    }
    began = time.process_time()
    for octets in endless.values():
        for message in Reading("response").messages(memoryview(octets)):
            assert message.size <= 300_000
    assert time.process_time() - began < 20


def test_the_command(tmp_path: Path) -> None:
    path = http_streams.write(
        tmp_path / "http.pcap", [(request(), response(b"there", "Content-Type: text/css"))]
    )
    commands.run("streams", path, "-e", "http", "-o", tmp_path / "o", "--tables", tmp_path / "t")
    assert (tmp_path / "o" / "010.000.000.002.00080-010.000.000.001.01001-HTTPBODY-001.css").exists()
    assert pl.read_parquet(tmp_path / "t" / "http.parquet")["path"].to_list() == ["/"]


def test_a_table_alone(tmp_path: Path) -> None:
    path = http_streams.write(tmp_path / "http.pcap", [(request(), response(b"there"))])
    write_streams([path], rules=Rules(), tables=str(tmp_path), with_http=True)
    [row] = pl.read_parquet(tmp_path / "http.parquet").to_dicts()
    assert row["response_body"] is None and row["response_sha256"] == hashlib.sha256(b"there").hexdigest()
