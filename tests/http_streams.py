"""Captures of HTTP for tests: what servers and clients send, as TCP streams."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests import tcp

SERVER = ("10.0.0.2", 80)
_SEGMENT = 1000


def response(body: bytes, *fields: str, status: str = "200 OK", sized: bool = True) -> bytes:
    """A response with header fields, of a length that tcpflow looks at."""
    lines = [f"HTTP/1.1 {status}", f"Server: {'x' * 60}", *fields]
    if sized:
        lines.append(f"Content-Length: {len(body)}")
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


def chunked(body: bytes, *fields: str, size: int = 50, end: bytes = b"0\r\n\r\n") -> bytes:
    """A response in chunks."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + end
    return response(framed, "Transfer-Encoding: chunked", *fields, sized=False)


def request(method: str = "GET", target: str = "/", body: bytes = b"", *fields: str) -> bytes:
    """A request of example.org."""
    sized = [f"Content-Length: {len(body)}"] if body else []
    lines = [f"{method} {target} HTTP/1.1", "Host: example.org", *fields, *sized]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


def segments(octets: bytes, *, client: int, back: bool, first: int = 100) -> list[tcp.Segment]:
    """The segments of a stream from the client of that port, or ``back`` from the server, with SYN and FIN."""
    ends = (("10.0.0.1", client), SERVER)
    source, destination = reversed(ends) if back else ends

    def segment(seq: int, data: bytes = b"", flags: int = 16) -> tcp.Segment:
        return tcp.Segment(seq, data, flags, source, destination)

    parts = range(0, len(octets), _SEGMENT)
    return [
        segment(first - 1, flags=2),
        *(segment(first + at, octets[at : at + _SEGMENT]) for at in parts),
        segment(first + len(octets), flags=17),
    ]


def write(path: Path, streams: Sequence[tuple[bytes, bytes]]) -> Path:
    """A capture of connections, each (what the client sends, what the server sends), from ports 1001 on."""
    frames = [
        each.frame()
        for number, (there, back) in enumerate(streams)
        for octets, is_back in ((there, False), (back, True))
        if octets
        for each in segments(octets, client=1001 + number, back=is_back)
    ]
    tcp.write(path, frames)
    return path
