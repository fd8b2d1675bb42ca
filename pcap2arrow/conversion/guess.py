"""Units of a capture that nobody read yet: where they begin is a guess, which those who read them prove."""

from __future__ import annotations

from pcap2arrow.conversion.placed import Unit
from pcap2arrow.conversion.scan import block_count, guess
from pcap2arrow.errors import FormatError
from pcap2arrow.inputs import Input
from pcap2arrow.savefile.pcap import PcapHeader
from pcap2arrow.savefile.reader import Position, read_header, read_windows
from pcap2arrow.savefile.source import Source, open_source

_SAMPLE = 1 << 16
"""Octets in which packets are counted, to know about how many there are in a unit."""


def guessed_units(found: Input, octets: int) -> tuple[Unit, ...]:
    """Units of about so many octets of a capture that is not compressed; none of one that is no more, or no capture.

    Each is as if the capture began with it: its first frame is 1, and no packet came before.  It may begin elsewhere
    than the one before it ends (see :class:`~queries.streams.shifts.Proof`).
    """
    try:
        with open_source(found.path, name=found.name) as source:
            blocks = block_count(source.size, octets)
            if blocks < 2:
                return ()
            header = read_header(source)
            guesses = [guess(source, header, n * octets, (n + 1) * octets) for n in range(1, blocks)]
            begins = [Position(0), *(each for each in guesses if each is not None)]
            ends = [*(each.offset for each in begins[1:]), source.size]
            return tuple(
                Unit(0, "", begin, end, _packets(source, header, begin, end), 1, None, is_guess=True)
                for begin, end in zip(begins, ends, strict=True)
            )
    except FormatError:
        return ()


def _packets(source: Source, header: PcapHeader | None, begin: Position, end: int) -> int:
    """About how many packets there are."""
    stop = min(begin.offset + _SAMPLE, end)
    for window, after in read_windows(source, header, begin, stop=stop, window=_SAMPLE):
        if len(window.records):
            return len(window.records) * (end - begin.offset) // (after.offset - begin.offset)
    return 0
