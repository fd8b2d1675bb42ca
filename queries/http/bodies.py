"""The bodies of HTTP messages: what they hold, and files of them beside those of streams."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow.compute as pc

from pcap2arrow.errors import ExportError
from queries.http.decoding import DecodingError, decoded, is_known
from queries.http.extensions import extension
from queries.http.messages import Kind, Message, Reading
from queries.streams.assembly import heads
from queries.streams.bucket import Bucket
from queries.streams.files import contents, filled
from queries.streams.tables import connections

RATIO = 100
"""How many octets of decoded bodies a stream may give for each of its own."""

LEAST = 4 << 20
"""What a stream may give at least."""

_SHORTEST = 80  # octets of a stream that tcpflow looks at
_ZEROS = bytes(1 << 16)
_FIRST_LINE = 512  # octets that tell what a stream is
_REQUEST_LINE = r"^[A-Z][A-Z_-]{2,31} +[^ \r\n]+( +HTTP/1\.|$)"
_KINDS: tuple[Kind, ...] = ("request", "response")


@dataclass(frozen=True, slots=True)
class Rules:
    """How bodies are taken from streams.

    ``as_tcpflow`` finds the bodies that tcpflow 1.6.1 finds; ``raw`` leaves them encoded.
    """

    as_tcpflow: bool = False
    raw: bool = False


@dataclass(frozen=True, slots=True)
class Body:
    """A message of ``stream`` and what became of its body.

    ``size`` is how many octets it has without its encodings, ``sha256`` their hash, ``name`` that of their file; both
    are None where there are none.  ``problem`` tells what is wrong with the message or its body.
    """

    stream: int
    message: Message
    size: int
    sha256: str | None
    name: str | None
    problem: str | None


@dataclass(slots=True)
class Bodies:
    """The messages of a bucket's streams, by stream, in their order; and sentences about what went wrong."""

    of_stream: dict[int, list[Body]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def bodies(bucket: Bucket, names: Mapping[int, str], rules: Rules, *, folder: Path | None) -> Bodies:
    """Find the HTTP messages of a bucket's streams, and write their bodies to a folder (None: nowhere).

    ``names`` are those of the streams' files; bodies of ``NAME`` are ``NAME-HTTPBODY-001.html``, numbered as messages
    are.  A response is read as an answer to the request of the same turn of its connection.  What decoding makes of a
    stream stops at :data:`RATIO` times its size, at least :data:`LEAST` octets.  Raises ExportError where a file can't
    be written.
    """
    found = Bodies()
    partners = _partners(bucket)
    kinds = _kinds(bucket)
    if not rules.as_tcpflow:
        kinds = _of_partners(kinds, partners) | kinds
    for kind in _KINDS:
        streams = np.array(sorted(stream for stream, each in kinds.items() if each == kind), np.int64)
        for stream, content in contents(bucket.packets, bucket.assembly, streams):
            octets, problem = filled(content)
            if rules.as_tcpflow and kind == "response" and len(octets) < _SHORTEST:
                continue
            reading = Reading(kind, _methods(found, partners[stream]), rules.as_tcpflow)
            target = _Target(folder, names.get(stream, ""), rules)
            found.of_stream[stream] = list(_read(stream, octets, reading, target))
            told = [problem, reading.problem, target.problem]
            name = names.get(stream, f"stream {stream}")
            found.warnings += [f"{name}: {each}" for each in told if each is not None]
    return found


def _kinds(bucket: Bucket) -> dict[int, Kind]:
    """The streams that begin as HTTP does, and which side's they are."""
    streams = np.sort(bucket.opened())
    start = heads(bucket.packets, bucket.assembly, streams, _FIRST_LINE)
    responses = pc.starts_with(start, "HTTP/1.").to_numpy(zero_copy_only=False)
    requests = pc.match_substring_regex(start, _REQUEST_LINE).to_numpy(zero_copy_only=False)
    found: dict[int, Kind] = dict.fromkeys(streams[requests].tolist(), "request")
    return found | dict.fromkeys(streams[responses].tolist(), "response")


def _of_partners(kinds: Mapping[int, Kind], partners: Sequence[int | None]) -> dict[int, Kind]:
    """What the streams are whose connection speaks HTTP in the other direction: they may have been picked up late."""
    return {
        other: "response" if kind == "request" else "request"
        for stream, kind in kinds.items()
        if (other := partners[stream]) is not None
    }


def _partners(bucket: Bucket) -> list[int | None]:
    """For each stream the other one of its connection."""
    connection = connections(bucket.packets, bucket.followed)
    sides: dict[int, list[int]] = {}
    for stream, number in enumerate(connection.tolist()):
        sides.setdefault(number, []).append(stream)
    found: list[int | None] = [None] * len(connection)
    for pair in sides.values():
        if len(pair) == 2:
            found[pair[0]], found[pair[1]] = pair[1], pair[0]
    return found


def _methods(found: Bodies, partner: int | None) -> Sequence[str | None] | None:
    if partner is None or partner not in found.of_stream:
        return None
    return [each.message.method for each in found.of_stream[partner]]


def _read(stream: int, octets: memoryview, reading: Reading, target: _Target) -> Iterator[Body]:
    left = LEAST + RATIO * len(octets)
    for message in reading.messages(octets):
        body = target.take(stream, message, message.pieces(octets), left)
        if message.encodings:
            left -= body.size
        yield body


class _Target:
    """Where the bodies of one stream go."""

    def __init__(self, folder: Path | None, name: str, rules: Rules) -> None:
        self._folder = folder if name else None
        self._name = name
        self._rules = rules
        self.problem: str | None = None

    def take(self, stream: int, message: Message, pieces: Iterator[memoryview], most: int) -> Body:
        """Take a message's body, at most ``most`` octets of it if they are decoded."""
        if not self._rules.raw and message.encodings and is_known(message.encodings):
            pieces = decoded(pieces, message.encodings, as_tcpflow=self._rules.as_tcpflow)
        else:
            most = max(most, message.size)
        size, problem = 0, message.problem
        state = hashlib.sha256()
        name = f"{self._name}-HTTPBODY-{message.number:03}{extension(message.content_type)}"
        file: BinaryIO | None = None
        try:
            for piece in pieces:
                if size + len(piece) > most:
                    piece = piece[: most - size]
                    problem = f"body {message.number}: decodes to more than {RATIO} times its stream"
                    self.problem = f"{problem}: the rest is left out"
                if file is None and self._folder is not None and len(piece):
                    file = (self._folder / name).open("xb")
                if file is not None:
                    _write(file, piece)
                state.update(piece)
                size += len(piece)
                if size == most and problem != message.problem:
                    break
        except DecodingError as error:
            problem = problem or f"{message.encodings[-1]}: {error}"
        except OSError as error:
            raise ExportError(f"{self._folder}/{name}: {error.strerror}") from error
        finally:
            if file is not None:
                file.truncate(size)
                file.close()
        return Body(
            stream=stream,
            message=message,
            size=size,
            sha256=state.hexdigest() if size else None,
            name=name if file is not None else None,
            problem=problem,
        )


def _write(file: BinaryIO, piece: memoryview) -> None:
    """Write octets; blocks of zeros, as bombs and holes have them, are left to the file system."""
    for at in range(0, len(piece), len(_ZEROS)):
        block = piece[at : at + len(_ZEROS)]
        if block == _ZEROS:
            file.seek(len(block), io.SEEK_CUR)
        else:
            file.write(block)
