"""One capture as packet table, window by window, without a dataset."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pcap2arrow.conversion.options import OnError
from pcap2arrow.conversion.packets import packet_rows
from pcap2arrow.conversion.placed import Unit, place
from pcap2arrow.errors import FormatError
from pcap2arrow.savefile.reader import Position, read_header
from pcap2arrow.savefile.source import open_source


def read_tables(path: str, *, name: str | None = None, on_error: OnError = "salvage") -> Iterator[pa.Table]:
    """The packet table of a capture in parts of one window each, in the capture's order; ``capture_id`` is 0.

    Memory is bounded by the window.  ``name`` is what errors call the capture.  Raises FormatError where it is none,
    or ``strict`` and damaged.
    """
    with open_source(path, name=name) as source:
        header = read_header(source)
        everything = Unit(0, "", Position(0), source.size, 0, 1, None)
        for placed, window in place(source, header, everything):
            wrong = next((gap for gap in window.gaps if gap.expected), None)
            if wrong and on_error == "strict":
                raise FormatError(source.name, wrong.offset, expected=wrong.expected, found=wrong.found)
            if len(placed):
                yield pa.Table.from_batches([packet_rows(placed, capture_id=0)])
        if on_error == "strict" and source.cut:
            raise FormatError(source.name, source.size, expected="the rest of the capture", found=source.cut)
