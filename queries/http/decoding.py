"""Bodies without what ``Content-Encoding`` names, a bounded step at a time."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import IO, cast

Pieces = Iterable[memoryview]

MOST_LAYERS = 2
"""Encodings of one body that are undone."""

_STEP = 1 << 20  # octets that come out at once
_INPUT = 1 << 16
_BLOCK = 1 << 16  # octets that tcpflow 1.6.1 decodes at once
_LARGEST_WINDOW = 1 << 27
_ANY_HEADER, _NO_HEADER = zlib.MAX_WBITS + 32, -zlib.MAX_WBITS
_HEADER = 2  # octets that tell gzip, zlib and neither apart
_GZIP = b"\x1f\x8b"


class DecodingError(Exception):
    """A body is not what its encoding makes."""


def is_known(encodings: Iterable[str]) -> bool:
    """Whether these encodings can be undone."""
    names = [name for name in encodings if name != "identity"]
    return len(names) <= MOST_LAYERS and all(name in _DECODERS for name in names)


def decoded(pieces: Pieces, encodings: Iterable[str], *, as_tcpflow: bool = False) -> Iterator[memoryview]:
    """A body without its encodings, which were applied in their order, at most a mebibyte at a time.

    What follows a whole body is left out.  Raises DecodingError, after what could be decoded, where it is not what its
    encoding makes, or cut.  ``as_tcpflow`` loses of gzip and zlib what tcpflow 1.6.1 loses: 64 KiB in which something
    is wrong, or which others follow that are not of the body.
    """
    for name in reversed([name for name in encodings if name != "identity"]):
        by_blocks = as_tcpflow and name in ("gzip", "deflate")
        pieces = _inflated_by_blocks(pieces, name) if by_blocks else _DECODERS[name](pieces)
    yield from pieces


def _small(pieces: Pieces) -> Iterator[memoryview]:
    """The same octets in pieces of which copies are cheap."""
    for piece in pieces:
        for at in range(0, len(piece), _INPUT):
            yield piece[at : at + _INPUT]


def _unzipped(pieces: Pieces) -> Iterator[memoryview]:
    """gzip, or zlib, which servers confuse with it."""
    first, pieces = _peeked(pieces)
    if first and not _has_header(first):
        raise DecodingError("expected the header of gzip")
    yield from _inflated(pieces)


def _peeked(pieces: Pieces) -> tuple[bytes, Pieces]:
    """The first octets, as many as tell gzip, zlib and neither apart (none of fewer), and all pieces."""
    begun: list[memoryview] = []
    more = iter(pieces)
    while sum(map(len, begun)) < _HEADER and (piece := next(more, None)) is not None:
        begun.append(piece)
    first = b"".join(begun)
    return first if len(first) >= _HEADER else b"", chain(begun, more)


def _inflated(pieces: Pieces) -> Iterator[memoryview]:
    """deflate, with the header of zlib, without one, or as gzip: servers do all of this (RFC 9110, 8.4.1.2)."""
    state: zlib._Decompress | None = None
    begun = b""
    for piece in _small(pieces):
        data = begun + piece
        begun = b""
        while data:
            if state is None:
                if len(data) < _HEADER:
                    begun = data
                    break
                state = zlib.decompressobj(_ANY_HEADER if _has_header(data) else _NO_HEADER)
            elif state.eof:
                if not data.startswith(_GZIP):
                    return
                state = zlib.decompressobj(_ANY_HEADER)
            yield from _drained(state, data)
            data = state.unused_data
    if begun or (state is not None and not state.eof):
        raise DecodingError("cut")


def _inflated_by_blocks(pieces: Pieces, name: str) -> Iterator[memoryview]:
    """gzip and zlib by blocks that begin anew with each piece; octets without a header as others decode them."""
    first, pieces = _peeked(pieces)
    if not first or not _has_header(first):
        yield from _DECODERS[name](pieces)
        return
    state = zlib.decompressobj(_ANY_HEADER)
    for piece in pieces:
        yield from _blocks(state, piece)
    if not state.eof:
        raise DecodingError("cut")


def _blocks(state: zlib._Decompress, piece: memoryview) -> Iterator[memoryview]:
    block = bytearray()
    for part in _small([piece]):
        data: bytes | memoryview = part
        is_full = True
        while data or is_full:
            if state.eof:
                raise DecodingError("more than one body")
            try:
                block += state.decompress(data, _BLOCK - len(block))
            except zlib.error as error:
                raise DecodingError(str(error)) from None
            data = state.unused_data or state.unconsumed_tail
            is_full = len(block) == _BLOCK and not state.eof
            if is_full:
                yield memoryview(bytes(block))
                block.clear()
    if block:
        yield memoryview(block)


def _drained(state: zlib._Decompress, data: bytes) -> Iterator[memoryview]:
    """All that comes out for some octets."""
    while True:
        before = state.copy()
        try:
            found = state.decompress(data, _STEP)
        except zlib.error as error:
            yield from _up_to_error(before, data)
            raise DecodingError(str(error)) from None
        if found:
            yield memoryview(found)
        data = state.unconsumed_tail
        if state.eof or (not data and len(found) < _STEP):
            return


def _up_to_error(state: zlib._Decompress, data: bytes) -> Iterator[memoryview]:
    """What comes out before an error, of which a call for many octets gives nothing."""
    with suppress(zlib.error):
        for at in range(len(data)):
            if found := state.decompress(data[at : at + 1]):
                yield memoryview(found)


def _has_header(data: bytes) -> bool:
    """Whether octets begin as gzip (RFC 1952) or zlib (RFC 1950)."""
    return data.startswith(_GZIP) or (data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0)


def _unbrotlied(pieces: Pieces) -> Iterator[memoryview]:
    import brotli

    state = brotli.Decompressor()
    try:
        for piece in _small(pieces):
            found = state.process(bytes(piece), output_buffer_limit=_STEP)
            while found:
                yield memoryview(found)
                found = b"" if state.can_accept_more_data() else state.process(b"", output_buffer_limit=_STEP)
            if state.is_finished():
                return
    except brotli.error as error:
        raise DecodingError(str(error)) from None
    raise DecodingError("cut")


def _unzstandard(pieces: Pieces) -> Iterator[memoryview]:
    import zstandard

    source = cast("IO[bytes]", _Source(pieces))
    reader = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW).stream_reader(
        source, read_across_frames=True
    )
    try:
        while found := reader.read(_STEP):
            yield memoryview(found)
    except zstandard.ZstdError as error:
        raise DecodingError(str(error)) from None


class _Source:
    """Pieces as a file to be read."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = _small(pieces)

    def read(self, size: int = -1) -> bytes:
        """The next piece, which is a small one."""
        return bytes(next(self._pieces, b""))


_DECODERS: dict[str, Callable[[Pieces], Iterator[memoryview]]] = {
    "gzip": _unzipped,
    "x-gzip": _unzipped,
    "deflate": _inflated,
    "br": _unbrotlied,
    "zstd": _unzstandard,
}
