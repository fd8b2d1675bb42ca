"""The HTTP messages of a stream: where each is, what its head says, and where its body lies (RFC 9112)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import httptools

from queries.http import older

Kind = Literal["request", "response"]
"""What a stream carries: what clients send, or servers."""

MOST_MESSAGES = 100_000
"""Messages of a stream that are looked at."""

SWITCHING = 101
"""The status after which a connection is of another protocol."""

_LONGEST_HEAD = 80 << 10
_LINES = re.compile(rb"[\r\n]*")
_HEAD_END = re.compile(rb"\n\r?\n")
_CHUNK_LINE = re.compile(
    rb"(?=[0-9A-Fa-f])0{0,64}+([0-9A-Fa-f]{0,15}+)[ \t]{0,64}+(?:;[^\r\n]{0,4096})?\r?\n"
)
_CHUNK_END = re.compile(rb"\r?\n")
_TRAILER = re.compile(rb"(?:[^\r\n]{1,8192}+\r?\n){0,100}+\r?\n")
_STARTS: dict[Kind, re.Pattern[bytes]] = {
    "request": re.compile(rb"[A-Z][A-Z_-]{2,31}+ ++[^ \r\n]{1,65536}+ ++HTTP/1\.\d\r?\n"),
    "response": re.compile(rb"HTTP/1\.\d \d{3}[ \r\n]"),
}
_NO_CONTENT, _NOT_MODIFIED = 204, 304


@dataclass(frozen=True, slots=True)
class Framing:
    """How chunks are told apart: the line before each, with its size as the first group, and what ends it."""

    line: re.Pattern[bytes] = _CHUNK_LINE
    end: re.Pattern[bytes] = _CHUNK_END


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a stream, ``number`` counted from 1.

    It begins at ``start``; its body, as it was sent, is from ``body`` to ``end``, in chunks if they have a ``framing``:
    ``size`` octets without what frames them, the first of them at ``offset``.  ``method`` and ``target`` are None in
    responses, ``status`` in requests.  ``encodings`` are those of ``Content-Encoding``, in the order in which they were
    applied.
    ``problem`` tells what is wrong with the message, None if it is whole.
    """

    number: int
    start: int
    body: int
    offset: int
    end: int
    size: int
    framing: Framing | None
    method: str | None
    target: str | None
    status: int | None
    host: str | None
    content_type: str | None
    encodings: tuple[str, ...]
    problem: str | None

    def pieces(self, octets: memoryview) -> Iterator[memoryview]:
        """The body in the stream's octets, without what frames chunks."""
        if self.framing is not None:
            for start, stop in _Chunks(octets[: self.end], self.body, self.framing):
                yield octets[start:stop]
        elif self.size:
            yield octets[self.body : self.end]


@dataclass(slots=True)
class Reading:
    """How messages of a stream are read.

    ``methods`` are those of the requests that a stream of responses answers, None if these are not known: HEAD and
    CONNECT have no body.  ``as_tcpflow`` reads as tcpflow 1.6.1 does: nothing from the first error on, and a body
    wherever the head has a length.  ``problem`` is what was wrong in the end, None if nothing.
    """

    kind: Kind
    methods: Sequence[str | None] | None = None
    as_tcpflow: bool = False
    problem: str | None = None
    _answered: int = 0

    def messages(self, octets: memoryview) -> Iterator[Message]:
        """The messages of a stream, one after another; what lies between them is left out."""
        at = number = body = 0
        while (at := self._next_start(octets, at)) < len(octets):
            if number == MOST_MESSAGES:
                self.problem = f"more than {MOST_MESSAGES} messages: the rest is left out"
                return
            number += 1
            if body <= at:
                end = self._head_end.search(octets, at)
                body = len(octets) + _LONGEST_HEAD if end is None else end.end()
            head = self._head(octets[at:body]) if body - at <= _LONGEST_HEAD else None
            if head is None:
                self.problem = f"offset {at}: expected the head of an HTTP {self.kind}"
                if self.as_tcpflow:
                    return
                at = max(body - _LONGEST_HEAD, at + 1) if body - at > _LONGEST_HEAD else body
                continue
            message = self._message(octets, number, at, body, head)
            yield message
            at = message.end
            if head.status == SWITCHING or self._opens_tunnel(head) or (message.problem and self.as_tcpflow):
                return

    def _head(self, octets: memoryview) -> _Head | None:
        if not self._as_older:
            return _Head.of(self.kind, octets, lenient=not self.as_tcpflow)
        readable = older.readable_head(bytes(octets))
        return None if readable is None else _Head.of(self.kind, memoryview(readable), lenient=False)

    @property
    def _as_older(self) -> bool:
        return self.as_tcpflow and self.kind == "response"

    @property
    def _head_end(self) -> re.Pattern[bytes]:
        return older.HEAD_END if self._as_older else _HEAD_END

    def _next_start(self, octets: memoryview, at: int) -> int:
        """Where the next message starts: here, if need be further on."""
        lines = _LINES.match(octets, at)
        at = at if lines is None else lines.end()
        if self.as_tcpflow:
            return at
        found = _STARTS[self.kind].search(octets, at)
        return len(octets) if found is None else found.start()

    def _message(self, octets: memoryview, number: int, start: int, body: int, head: _Head) -> Message:
        framing, offset, problem = None, body, None
        length = self._length(head)
        if length == _CHUNKED:
            framing = Framing(older.CHUNK_LINE, older.CHUNK_END) if self._as_older else Framing()
            chunks = _Chunks(octets, body, framing)
            size = sum(stop - start for start, stop in chunks)
            offset, end, problem = chunks.first, chunks.end, chunks.problem
        elif length == _UNTIL_THE_END:
            end = len(octets)
            size = end - body
        else:
            end = min(body + length, len(octets))
            size = end - body
            problem = f"{size} of {length} octets" if size < length else None
        return Message(
            number=number,
            start=start,
            body=body,
            offset=offset,
            end=end,
            size=size,
            framing=framing,
            method=head.method,
            target=head.target if self.kind == "request" else None,
            status=head.status,
            host=head.text("host"),
            content_type=head.text("content-type"),
            encodings=self._encodings(head),
            problem=problem,
        )

    def _encodings(self, head: _Head) -> tuple[str, ...]:
        text = head.text("content-encoding")
        if not self.as_tcpflow:
            return _listed(text)
        return (text,) if text is not None and text != _UNKNOWN_TO_TCPFLOW else ()

    def _length(self, head: _Head) -> int:
        """How long the body is: RFC 9112, 6.3."""
        request, status = self._request_of(head), head.status
        if not self.as_tcpflow and self.kind == "response" and status is not None:
            has_none = status < 200 or status in (_NO_CONTENT, _NOT_MODIFIED) or request == "HEAD"
            if has_none or (request == "CONNECT" and status < 300):
                return 0
        codings = [each.strip(" \t").lower() for each in (head.text("transfer-encoding") or "").split(",")]
        if codings[-1] == "chunked" and (all(codings) or not self.as_tcpflow):
            return _CHUNKED
        length = head.text("content-length")
        if length is not None:
            return int(length)
        if self.kind == "request" or (status is not None and status < 200):
            return 0
        return 0 if status in (_NO_CONTENT, _NOT_MODIFIED) else _UNTIL_THE_END

    def _request_of(self, head: _Head) -> str | None:
        """The method that a response answers; those that are not final answer none (RFC 9110, 15.2)."""
        if self.methods is None or head.status is None:
            return None
        method = self.methods[self._answered] if self._answered < len(self.methods) else None
        if head.status >= 200:
            self._answered += 1
        return method

    def _opens_tunnel(self, head: _Head) -> bool:
        if self.methods is None or head.status is None or not 200 <= head.status < 300:
            return False
        return 0 < self._answered <= len(self.methods) and self.methods[self._answered - 1] == "CONNECT"


_CHUNKED, _UNTIL_THE_END = -1, -2
_UNKNOWN_TO_TCPFLOW = "x-gzip"


def _listed(text: str | None) -> tuple[str, ...]:
    """The words of a list, in small letters."""
    return tuple(word for each in (text or "").split(",") if (word := each.strip(" \t").lower()))


@dataclass(slots=True)
class _Head:
    """What the head of a message says, taken down while it is parsed; of fields that repeat, the last."""

    method: str | None = None
    target: str = ""
    status: int | None = None
    is_whole: bool = False
    _fields: dict[bytes, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, kind: Kind, octets: memoryview, *, lenient: bool) -> _Head | None:
        """Parse a head; None for what is none, if ``lenient`` only for what can't be made sense of."""
        head = cls()
        parser: httptools.HttpRequestParser | httptools.HttpResponseParser
        parser = (
            httptools.HttpRequestParser(head) if kind == "request" else httptools.HttpResponseParser(head)
        )
        parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_chunked_length=lenient,
            lenient_transfer_encoding=True,
            lenient_version=True,
            lenient_optional_lf_after_cr=lenient,
            lenient_optional_cr_before_lf=True,
        )
        with suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):  # the latter behind the head
            parser.feed_data(octets)
        if not head.is_whole:
            return None
        if isinstance(parser, httptools.HttpRequestParser):
            head.method = parser.get_method().decode("latin-1")
        else:
            head.status = parser.get_status_code()
        return head

    def on_url(self, url: bytes) -> None:
        """Take down what is asked for."""
        self.target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take down a field."""
        self._fields[name.strip().lower()] = value

    def on_headers_complete(self) -> None:
        """Take down that there is nothing wrong with the head."""
        self.is_whole = True

    def text(self, name: str) -> str | None:
        """A field's value."""
        value = self._fields.get(name.encode())
        return None if value is None else value.decode("latin-1").strip(" \t")


class _Chunks:
    """The chunks of a body (RFC 9112, 7.1) as (start, stop), and afterwards: where the ``first`` one is, the ``end``
    of the body, and the ``problem``, if it has one.
    """

    def __init__(self, octets: memoryview, start: int, framing: Framing) -> None:
        self.first = self.end = start
        self.problem: str | None = None
        self._octets, self._framing = octets, framing

    def __iter__(self) -> Iterator[tuple[int, int]]:
        octets, total, at = self._octets, len(self._octets), self.end
        while line := self._framing.line.match(octets, at):
            start = line.end()
            length = int(line[1] or b"0", 16)
            if not length:
                trailer = _TRAILER.match(octets, start)
                self.end = total if trailer is None else trailer.end()
                self.problem = None if trailer else "expected the end of the last chunk"
                return
            if at == self.end and self.first == self.end:
                self.first = start
            at = stop = min(start + length, total)
            yield start, stop
            if (ending := self._framing.end.match(octets, stop)) is None:
                break
            at = ending.end()
        self.end, self.problem = at, f"offset {at}: expected a chunk"
