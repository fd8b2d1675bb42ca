"""TCP packets of datasets and captures, part by part."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pcap2arrow.conversion.packets import packet_rows
from pcap2arrow.conversion.plan import Unit
from pcap2arrow.conversion.unit import place
from pcap2arrow.dataset.api import is_dataset
from pcap2arrow.dataset.log import Dataset, open_dataset
from pcap2arrow.dataset.snapshot import DataFile, LiveCapture
from pcap2arrow.dataset.snapshot import Source as Stamp
from pcap2arrow.errors import UsageError
from pcap2arrow.inputs import Input, find_captures
from pcap2arrow.reading.files import nulls, read_frame
from pcap2arrow.savefile.pcapng import SectionState, starts_section
from pcap2arrow.savefile.reader import Position, read_header
from pcap2arrow.savefile.source import STANDARD_INPUT, compression_of, open_source, peek_stored, stamp
from pcap2arrow.urls import is_url
from pcap2arrow.writing.original import capture_row
from queries.exports import FilterSelection
from queries.filters.compiled import Filter
from queries.fragments.collection import Fragments
from queries.fragments.headers import is_fragment
from queries.streams.packets import COLUMNS, PLACE, TURN

CHOSEN, OF_FRAGMENTS = "chosen", "of_fragments"
"""Columns of readings that are flagged."""

_TIMES = ("time", "order_time")
_EXPANDS = 3
"""How many times as large packets are in memory as in a dataset, about."""

_NO_TIME = np.iinfo(np.int64).min


@dataclass(slots=True)
class Reading:
    """What is read of sources: ``columns`` of the packets that ``chosen`` selects and ``where`` something is so.

    With ``defrag``, fragments are put together first; where a filter chooses, what it left only the first fragment of
    is that fragment.  With ``flagged`` it leaves nothing out: the column :data:`CHOSEN` says what it selects (or any
    fragment of it), and :data:`OF_FRAGMENTS` is the ``frag_key`` of what fragments make, null of others.
    With ``views``, octets of a frame count only until the next one is asked for: they are not copied.  ``errors`` are
    what was wrong in captures, once the parts were read.
    """

    columns: Sequence[str] = COLUMNS
    chosen: Filter | None = None
    where: pl.Expr | None = None
    views: bool = False
    errors: list[str] = field(default_factory=list)
    defrag: bool = True
    flagged: bool = False
    selection: FilterSelection | None = field(init=False)
    fragments: Fragments | None = field(init=False)

    def __post_init__(self) -> None:
        self.selection = None if self.chosen is None else FilterSelection([self.chosen])
        held = Fragments(
            _all_columns(self),
            (TURN, PLACE, "frame_number"),
            keep_first=self.chosen is not None and not self.flagged,
        )
        self.fragments = held if self.defrag else None

    def again(self) -> Reading:
        """The same, with nothing read yet."""
        return Reading(
            self.columns, self.chosen, self.where, self.views, defrag=self.defrag, flagged=self.flagged
        )


@dataclass(frozen=True, slots=True)
class Part:
    """Packets of one capture: frames of them, when it is called; ``octets`` says how many it is read from, about.

    The octets of what has to be decompressed first are not known: None.  The one that ``is_last`` is what fragments in
    all others make: its reading has to have read these, or to have been given the fragments that others held.
    """

    frames: Callable[[Reading], Iterator[pl.DataFrame]]
    reading: Reading
    octets: int | None
    is_last: bool = False

    def __call__(self) -> Iterator[pl.DataFrame]:
        """Its frames, as they are read."""
        return self.frames(self.reading)


Units = Callable[[Input], Sequence[Unit]]
"""Units that a capture is read in; none: it is read as a whole."""


def parts(
    sources: Iterable[str | os.PathLike[str]], reading: Reading, *, units: Units = lambda found: ()
) -> Iterator[Part]:
    """Parts of the sources' packet tables, each to be read when it is called; a part is of one capture.

    Frames have the columns asked for, :data:`PLACE` (the capture's place among all) and :data:`TURN` (the greatest time
    so far in the capture, in nanoseconds).  Frames of a capture are in its order.  A capture that a dataset holds
    under two names comes once.  The last part is what fragments in all others make: it is to be read after them.

    Raises errors of sources, and UsageError where a dataset has no octets.
    """
    number = 0
    for source in sources:
        if is_dataset(source):
            dataset = open_dataset(source)
            live = {each.capture_id: each for each in dataset.snapshot().ordered()}.values()
            for capture in live:
                yield from _of_live(dataset, capture, number, reading, units)
                number += 1
        else:
            for found in find_captures([source]).captures:
                yield from _of_input(found, number, reading, units)
                number += 1
    if reading.fragments is not None:
        yield Part(_of_fragments, reading, 0, is_last=True)


def _of_fragments(reading: Reading) -> Iterator[pl.DataFrame]:
    assert reading.fragments is not None
    for found in reading.fragments.whole():
        kept = found if reading.where is None else found.filter(reading.where)
        flags = [CHOSEN, OF_FRAGMENTS] if reading.flagged else []
        yield kept.select(*reading.columns, *flags, TURN, PLACE)


def _of_live(
    dataset: Dataset, capture: LiveCapture, number: int, reading: Reading, units: Units
) -> Iterator[Part]:
    options = capture.options.split()
    if "frames=stored" in options:
        big = capture_row(dataset, capture)["byte_order"] == "big"
        for file in capture.files:
            if file.table == "packets":
                yield Part(partial(_of_file, dataset, file, number, big), reading, file.octets * _EXPANDS)
    elif "frames=referenced" in options:
        yield from _of_input(Input(capture.name, capture.source.path), number, reading, units)
    else:
        raise UsageError(f"{capture.name}: converted with --frames none: there are no octets of streams")


def _of_file(
    dataset: Dataset, file: DataFile, number: int, big_endian: bool, reading: Reading
) -> Iterator[pl.DataFrame]:
    mask = None
    if reading.selection is not None:
        mask = reading.selection.of_file(dataset, file, big_endian=big_endian)[:, 0]
    rows = None if mask is None or reading.flagged else np.flatnonzero(mask)
    if rows is not None and not len(rows):
        return
    held = reading.fragments is not None and nulls(dataset, file, "frag_key") != file.rows
    where = None if held or reading.flagged else reading.where
    columns = reading.fragments.reads if held and reading.fragments is not None else _all_columns(reading)
    found = read_frame(dataset, file, columns=[*dict.fromkeys([*columns, *_TIMES])], rows=rows, where=where)
    yield _kept(found, mask, number, reading)


def _of_input(found: Input, number: int, reading: Reading, units: Units) -> Iterator[Part]:
    before = stamp(found.path)
    planned = units(found)
    for unit in planned:
        octets = unit.end - unit.begin.offset
        yield Part(partial(_of_capture, found, before, unit, number), reading, octets)
    if not planned:
        yield Part(partial(_of_capture, found, before, None, number), reading, stored_octets(found))


def stored_octets(found: Input) -> int | None:
    """Octets of a capture that can be read at any place; None where it has to be fetched or decompressed first."""
    if found.path == STANDARD_INPUT or is_url(found.path) or compression_of(peek_stored(found.path)):
        return None
    return stamp(found.path).size


def _of_capture(
    found: Input, before: Stamp, unit: Unit | None, number: int, reading: Reading
) -> Iterator[pl.DataFrame]:
    """Windows of a capture, or of one of its units; what a filter leaves out is not decoded."""
    with open_source(found.path, name=found.name, before=before) as source:
        header = read_header(source)
        first = starts_section(source.read(0, 12)) if header is None else None
        big_endian = (header.order if header is not None else first or SectionState().order) == ">"
        unit = unit or Unit(0, "", Position(0), source.size, 0, 1, None)
        for placed, window in place(source, header, unit):
            chosen = None
            if reading.selection is not None:
                chosen = reading.selection.of_records(placed.records, big_endian=big_endian)[:, 0]
                placed = placed if reading.flagged else placed.rows(chosen)
            if len(placed):
                rows = pl.from_arrow(packet_rows(placed, capture_id=0, views=reading.views))
                assert isinstance(rows, pl.DataFrame)
                yield _kept(rows, chosen, number, reading)
            reading.errors += [
                f"{source.name}: offset {gap.offset}: {gap.reason}" for gap in window.gaps if gap.reason
            ]
        if source.cut:
            reading.errors.append(
                f"{source.name}: offset {source.size}: expected the rest of the capture, found {source.cut}"
            )


def _all_columns(reading: Reading) -> list[str]:
    asked = [] if reading.where is None else reading.where.meta.root_names()
    return list(dict.fromkeys([*reading.columns, *asked]))


def _kept(
    packets: pl.DataFrame, chosen: NDArray[np.bool_] | None, number: int, reading: Reading
) -> pl.DataFrame:
    """The packets asked for; fragments are held."""
    flags: list[str] = []
    if reading.flagged:
        flags = [CHOSEN, OF_FRAGMENTS]
        flag = pl.lit(False) if chosen is None else pl.Series(chosen)
        packets = packets.with_columns(flag.alias(CHOSEN), pl.lit(None, pl.UInt64).alias(OF_FRAGMENTS))
    if (
        reading.fragments is not None
        and "header" in packets
        and packets["frag_key"].null_count() < len(packets)
    ):
        held = packets.filter(is_fragment())
        reading.fragments.add(ordered(held, number, [*reading.fragments.reads, *flags]))
        packets = packets.filter(~is_fragment())
    if reading.where is not None and (reading.flagged or "header" in packets):
        packets = packets.filter(reading.where)
    return ordered(packets, number, [*reading.columns, *flags])


def ordered(packets: pl.DataFrame, number: int, columns: Sequence[str]) -> pl.DataFrame:
    """Those columns of packets of one capture, the one with that ``number``, and their order."""
    turn = pl.coalesce("order_time", "time").forward_fill().dt.epoch("ns").fill_null(_NO_TIME)
    return packets.select(*columns, turn.alias(TURN), pl.lit(number, dtype=pl.UInt32).alias(PLACE))
