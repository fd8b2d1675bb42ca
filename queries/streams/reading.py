"""TCP packets of datasets and captures, part by part."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pcap2arrow.arrays import slices
from pcap2arrow.conversion.packets import packet_rows
from pcap2arrow.conversion.placed import Placed, Unit, place_from
from pcap2arrow.dataset.api import is_dataset
from pcap2arrow.dataset.log import Dataset, open_dataset
from pcap2arrow.dataset.snapshot import DataFile, LiveCapture
from pcap2arrow.dataset.snapshot import Source as Stamp
from pcap2arrow.errors import UsageError
from pcap2arrow.inputs import Input, find_captures
from pcap2arrow.numbers import IPProtocol
from pcap2arrow.reading.files import nulls, read_frame
from pcap2arrow.savefile.blocks import starts_section
from pcap2arrow.savefile.pcapng import SectionState
from pcap2arrow.savefile.reader import Position, read_header
from pcap2arrow.savefile.source import STANDARD_INPUT, compression_of, open_source, peek_stored, stamp
from pcap2arrow.times import EVER, TimeRange
from pcap2arrow.urls import is_url
from pcap2arrow.writing.sources.of_files import file_meets, file_within, packets_in
from pcap2arrow.writing.sources.stored import capture_row
from queries.fragments.collection import Fragments
from queries.fragments.headers import is_fragment
from queries.streams.octets import READING, Source, of_capture, of_file
from queries.streams.packets import AT, COLUMNS, HEADER_LEN, PLACE, TURN

if TYPE_CHECKING:
    from queries.exports import FilterSelection
    from queries.filters.compiled import Filter

CHOSEN, OF_FRAGMENTS = "chosen", "of_fragments"
"""Columns of readings that are flagged."""

_HELD, _DOUBTFUL = "held", "doubtful"
_TIMES = ("time", "order_time")
_OCTETS = frozenset({"header", "rest"})
_OCTETS_OF_A_RECORD = 200
"""How many octets of a capture there are for each packet, at least in most."""

_WINDOW = 27 << 20
"""Octets of a capture that are read at once, a third of a task's: each window costs as much as thousands of packets."""

_NO_TIME = np.iinfo(np.int64).min


@dataclass(slots=True)
class Reading:
    """What is read of sources: ``columns`` of the packets of ``times`` that ``chosen`` selects and ``where`` holds of.

    With ``defrag``, fragments are put together first; where a filter or a time chooses, what it left only the first
    fragment of is that fragment.  With ``flagged`` it leaves nothing out: the column :data:`CHOSEN` says what it
    selects (or any fragment of it), and :data:`OF_FRAGMENTS` is the ``frag_key`` of what fragments make, null of
    others.  With ``views``, octets of a frame count only until the next one is asked for: they are not copied.  With
    ``apart``, frames have no ``rest`` but what :func:`~queries.streams.packets.located` needs: octets are read once it
    is known which (see :class:`Part`); those of fragments are there.  ``errors`` are what was wrong in captures, once
    the parts were read, ``notices`` what users should know beside; ``after`` is what is left of a unit behind its end.
    """

    columns: Sequence[str] = COLUMNS
    chosen: Filter | None = None
    where: pl.Expr | None = None
    views: bool = False
    errors: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    defrag: bool = True
    flagged: bool = False
    apart: bool = False
    of_tcp: bool = False
    times: TimeRange = EVER
    selection: FilterSelection | None = field(init=False)
    fragments: Fragments | None = field(init=False)
    after: Unit | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.selection = None if self.chosen is None else _selection(self.chosen)
        held = Fragments(
            _all_columns(self),
            (TURN, PLACE, "frame_number"),
            keep_first=self.chooses and not self.flagged,
        )
        self.fragments = held if self.defrag else None

    @property
    def chooses(self) -> bool:
        """Whether packets are left out by a filter or by their times."""
        return self.chosen is not None or bool(self.times)

    @property
    def held(self) -> pl.Expr:
        """Which packets are fragments to be put together."""
        of_tcp = (pl.col("ip_version") != 4) | (pl.col("ip_proto") == IPProtocol.TCP.value)
        return is_fragment() & of_tcp if self.of_tcp else is_fragment()

    @property
    def warnings(self) -> list[str]:
        """The notices, and what is to be known of fragments once they were put together."""
        return [*self.notices, *([] if self.fragments is None else self.fragments.warnings())]

    def again(self) -> Reading:
        """The same, with nothing read yet."""
        made, _ = self.__reduce__()
        return made()

    def __reduce__(self) -> tuple[Callable[[], Reading], tuple[()]]:
        """What a task in another process gets: never what was read in this one."""
        made = partial(Reading, self.columns, self.chosen, self.where, self.views)
        settings = {"defrag": self.defrag, "flagged": self.flagged, "apart": self.apart, "times": self.times}
        return partial(made, of_tcp=self.of_tcp, **settings), ()


def _selection(chosen: Filter) -> FilterSelection:
    from queries.exports import FilterSelection

    return FilterSelection([chosen])


@dataclass(frozen=True, slots=True)
class Part:
    """Packets of one capture: frames of them, when it is called; ``octets`` says how many it is read from, about.

    The octets of what has to be decompressed first are not known: None.  ``rows`` is how many packets they are, about,
    and ``name`` the capture's.
    The one that ``is_last`` is what fragments in all others make: its reading has to have read these, or to have been
    given the fragments that others held.  ``source`` reads octets of its packets once more (None: that can't be).
    ``unit`` is what it is of a capture, if that is a guess.
    """

    frames: Callable[[Reading], Iterator[pl.DataFrame]]
    reading: Reading
    octets: int | None
    rows: int = 0
    source: Source | None = None
    is_last: bool = False
    name: str = ""
    unit: Unit | None = None

    def __call__(self) -> Iterator[pl.DataFrame]:
        """Its frames, as they are read."""
        return self.frames(self.reading)


Units = Callable[[Input], Sequence[Unit]]
"""Units that a capture is read in; none: it is read as a whole."""


def parts(
    sources: Iterable[str | os.PathLike[str]],
    reading: Reading,
    *,
    units: Units = lambda found: (),
    stamps: dict[str, Stamp] | None = None,
) -> Iterator[Part]:
    """Parts of the sources' packet tables, each to be read when it is called; a part is of one capture.

    Frames have the columns asked for, :data:`PLACE` (the capture's place among all) and :data:`TURN` (the greatest time
    so far in the capture, in nanoseconds).  Frames of a capture are in its order.  A capture that a dataset holds
    under two names comes once.  The last part is what fragments in all others make: it is to be read after them.
    ``stamps`` of captures, by their paths, are from when a job began, and those of others are added.

    Raises errors of sources, and UsageError where a dataset has no octets.
    """
    number = 0
    cut = _Cut(units, {} if stamps is None else stamps)
    for source in sources:
        if is_dataset(source):
            dataset = open_dataset(source)
            live = {each.capture_id: each for each in dataset.snapshot().ordered()}.values()
            for capture in live:
                yield from _of_live(dataset, capture, number, reading, cut)
                number += 1
        else:
            for found in find_captures([source]).captures:
                yield from _of_input(found, number, reading, cut)
                number += 1
    if reading.fragments is not None:
        yield Part(_of_fragments, reading, 0, is_last=True)


def of_table(packets: pl.DataFrame, reading: Reading) -> Iterator[pl.DataFrame]:
    """Frames as those of :func:`parts`, of packets in memory: at least the columns :func:`columns_read`.

    Captures have the order of their ``capture_id``, and packets that of their ``frame_number``.
    """
    captures = packets.sort("capture_id", "frame_number").partition_by("capture_id", maintain_order=True)
    for number, capture in enumerate(captures):
        yield _kept(capture, None, number, reading)
    yield from _of_fragments(reading)


def columns_read(reading: Reading) -> list[str]:
    """Columns of the packet table that a reading takes frames from."""
    held = [] if reading.fragments is None else reading.fragments.reads
    return list(dict.fromkeys([*_all_columns(reading), *held, "capture_id", *_TIMES]))


def _of_fragments(reading: Reading) -> Iterator[pl.DataFrame]:
    assert reading.fragments is not None
    for found in reading.fragments.whole():
        kept = found if reading.where is None else found.filter(reading.where)
        flags = [CHOSEN, OF_FRAGMENTS] if reading.flagged else []
        yield kept.select(*reading.columns, *flags, TURN, PLACE)


def _of_live(
    dataset: Dataset, capture: LiveCapture, number: int, reading: Reading, cut: _Cut
) -> Iterator[Part]:
    options = capture.options.split()
    files = [file for file in capture.files if file.table == "packets" and _may_hold(file, reading.times)]
    stored = "frames=stored" in options
    if not stored and "frames=referenced" in options and _wants_octets(dataset, files, reading):
        yield from _of_input(Input(capture.name, capture.source.path), number, reading, cut)
        return
    if not stored and not _OCTETS.isdisjoint(reading.columns):
        raise UsageError(f"{capture.name}: converted with --frames none: there are no octets of streams")
    row = capture_row(dataset, capture)
    big = row["byte_order"] == "big"
    for file in files:  # how large one is says little: payloads that occur again are in it once
        yield Part(
            partial(_of_file, dataset, file, number, big, stored),
            reading,
            row["size"] * file.rows // capture.packets,
            file.rows,
            partial(of_file, dataset, file),
            name=capture.name,
        )


def _may_hold(file: DataFile, times: TimeRange) -> bool:
    return not times or file_meets(file, times)


def _wants_octets(dataset: Dataset, files: Sequence[DataFile], reading: Reading) -> bool:
    """Whether a reading asks for octets of a capture's packets: for a filter, or to put fragments together, too."""
    if reading.chosen is not None or not _OCTETS.isdisjoint(reading.columns):
        return True
    return reading.fragments is not None and any(_fragments_in(dataset, file) for file in files)


def _fragments_in(dataset: Dataset, file: DataFile) -> int:
    """How many fragments there are in a file."""
    return file.rows - (nulls(dataset, file, "frag_key") or 0)


def _of_file(
    dataset: Dataset, file: DataFile, number: int, big_endian: bool, stored: bool, reading: Reading
) -> Iterator[pl.DataFrame]:
    mask = None if file_within(file, reading.times) else packets_in(dataset, file, reading.times)
    if reading.selection is not None:
        mask = _both(mask, reading.selection.of_file(dataset, file, big_endian=big_endian)[:, 0])
    rows = None if mask is None or reading.flagged else np.flatnonzero(mask)
    if rows is not None and not len(rows):
        return
    fragments = 0 if reading.fragments is None else _fragments_in(dataset, file)
    held = stored and fragments > 0
    if fragments and not held:
        reading.notices.append(f"{fragments} fragments are not put together: their octets were not kept")
    read = partial(read_frame, dataset, file, rows=rows)
    if reading.apart:
        yield _apart(read, number, reading, with_fragments=held)
        return
    if held and not reading.flagged and _OCTETS.isdisjoint(_all_columns(reading)):
        yield _whole_ones(read, number, reading)
        return
    where = None if held or reading.flagged else reading.where
    columns = reading.fragments.reads if held and reading.fragments is not None else _all_columns(reading)
    found = read(columns=[*dict.fromkeys([*columns, *_TIMES])], where=where)
    yield _kept(found, mask, number, reading)


def _both(one: NDArray[np.bool_] | None, other: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return other if one is None else one & other


def _apart(
    read: Callable[..., pl.DataFrame], number: int, reading: Reading, *, with_fragments: bool
) -> pl.DataFrame:
    """Packets of a file without their octets, and without fragments: these are held, and octets of them alone read."""
    columns = [name for name in reading.columns if name != "rest"]
    found = _numbers(read, [*columns, "irregular"], reading, with_fragments=with_fragments)
    doubtful = pl.col("irregular") & (pl.col("payload_len") == 0) & ~pl.col(_HELD)
    if "filter_len" in columns:
        doubtful |= pl.col("filter_len") < pl.col("caplen")
    found = found.with_columns(doubtful.fill_null(False).alias(_DOUBTFUL))
    headers = _of_rows(read, "header", found.filter(pl.col(_HELD) | pl.col(_DOUBTFUL)))
    if with_fragments:
        _hold(read, found.filter(_HELD), headers, number, reading)
        found = found.filter(~pl.col(_HELD))
    header = pl.lit(None, pl.UInt32).alias(HEADER_LEN)
    if found[_DOUBTFUL].any():
        header = pl.when(_DOUBTFUL).then(pl.col("header").bin.size().cast(pl.UInt32)).alias(HEADER_LEN)
        found = found.join(headers, on="frame_number", how="left", maintain_order="left")
    more = found.with_columns(header, pl.col("frame_number").alias(AT))
    return ordered(more, number, [*columns, HEADER_LEN, AT])


def _whole_ones(read: Callable[..., pl.DataFrame], number: int, reading: Reading) -> pl.DataFrame:
    """Packets of a file, of whose octets nothing is asked, without fragments: these are held."""
    found = _numbers(read, _all_columns(reading), reading, with_fragments=True)
    fragments = found.filter(_HELD)
    _hold(read, fragments, _of_rows(read, "header", fragments), number, reading)
    return ordered(found.filter(~pl.col(_HELD)), number, reading.columns)


def _numbers(
    read: Callable[..., pl.DataFrame], columns: Sequence[str], reading: Reading, *, with_fragments: bool
) -> pl.DataFrame:
    """Columns of a file's packets, none of octets; and of fragments to be held, which the column ``held`` tells."""
    where = reading.where if reading.where is not None else pl.lit(True)
    held = pl.lit(False)
    if with_fragments and reading.fragments is not None:
        held = reading.held
        where = held | (where & ~is_fragment())
        columns = [*columns, *(name for name in reading.fragments.reads if name not in _OCTETS)]
    return read(columns=[*dict.fromkeys([*columns, *_TIMES])], where=where).with_columns(held.alias(_HELD))


def _of_rows(read: Callable[..., pl.DataFrame], column: str, packets: pl.DataFrame) -> pl.DataFrame:
    """A column of a file for some packets of it, with their frame numbers."""
    if not len(packets):
        return pl.DataFrame(schema={"frame_number": pl.UInt64(), column: pl.Binary()})
    return read(columns=["frame_number", column], where=_one_of(packets))


def _one_of(packets: pl.DataFrame) -> pl.Expr:
    return pl.col("frame_number").is_in(packets["frame_number"].implode())


def _hold(
    read: Callable[..., pl.DataFrame],
    packets: pl.DataFrame,
    headers: pl.DataFrame,
    number: int,
    reading: Reading,
) -> None:
    """Hold fragments of a file; nobody reads more octets at a time than one thread (see :data:`READING`)."""
    if not len(packets) or reading.fragments is None:
        return
    with READING:
        octets = _of_rows(read, "rest", packets)
    whole = packets.join(headers, on="frame_number", maintain_order="left")
    whole = whole.join(octets, on="frame_number", maintain_order="left")
    reading.fragments.add(ordered(whole, number, reading.fragments.reads))


@dataclass(frozen=True, slots=True)
class _Cut:
    """How captures are cut into units, and what they were like before."""

    units: Units
    stamps: dict[str, Stamp]


def _of_input(found: Input, number: int, reading: Reading, cut: _Cut) -> Iterator[Part]:
    if found.path not in cut.stamps:
        cut.stamps[found.path] = stamp(found.path)
    before = cut.stamps[found.path]
    planned = cut.units(found)
    for unit in planned:
        size = unit.end - unit.begin.offset
        again = partial(of_capture, found, before)
        frames = partial(_of_capture, found, before, unit, number)
        guess = unit if unit.is_guess else None
        yield Part(frames, reading, size, unit.packets, again, name=found.name, unit=guess)
    if not planned:
        stored = stored_octets(found)
        rows = (stored or 0) // _OCTETS_OF_A_RECORD
        source = None if stored is None else partial(of_capture, found, before)
        frames = partial(_of_capture, found, before, None, number)
        yield Part(frames, reading, stored, rows, source, name=found.name)


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
        wanted = {*columns_read(reading), "caplen"} - _OCTETS
        wanted |= _OCTETS.intersection(_all_columns(reading)) | ({"rest"} if reading.apart else set())
        for placed, window, after in place_from(source, header, unit, window=_WINDOW):
            unit = after
            records = placed.records
            chosen = reading.times.which(records.time, records.time_valid) if reading.times else None
            if reading.selection is not None:
                chosen = _both(chosen, reading.selection.of_records(records, big_endian=big_endian)[:, 0])
            if chosen is not None and not reading.flagged:
                placed = placed.rows(chosen)
            if len(placed):
                rows = _rows(placed, wanted, reading)
                if reading.apart:
                    rows = rows.with_columns(
                        (pl.col("caplen") - pl.col("rest").bin.size()).alias(HEADER_LEN),
                        pl.Series(AT, (placed.records.packet + window.base).astype(np.uint64)),
                    ).with_columns(pl.col(AT) + pl.col(HEADER_LEN))
                yield _kept(rows, chosen, number, reading, placed)
            reading.errors += [
                f"{source.name}: offset {gap.offset}: {gap.reason}" for gap in window.gaps if gap.reason
            ]
        if source.cut:
            reading.errors.append(
                f"{source.name}: offset {source.size}: expected the rest of the capture, found {source.cut}"
            )
        reading.after = unit


def _rows(placed: Placed, columns: Collection[str], reading: Reading) -> pl.DataFrame:
    rows = pl.from_arrow(packet_rows(placed, capture_id=0, views=reading.views, only=columns))
    assert isinstance(rows, pl.DataFrame)
    return rows


def _all_columns(reading: Reading) -> list[str]:
    asked = [] if reading.where is None else reading.where.meta.root_names()
    return list(dict.fromkeys([*reading.columns, *asked]))


def _with_octets(packets: pl.DataFrame, placed: Placed, reading: Reading) -> pl.DataFrame:
    """The packets of these records with all of their octets."""
    if HEADER_LEN not in packets.columns:
        return packets.with_columns(_rows(placed, _OCTETS, reading))
    records = placed.records  # decoded already, but for the octets of headers
    lengths = packets[HEADER_LEN].to_numpy().astype(np.int64)
    header = pl.from_arrow(slices(records.data, records.packet, lengths))
    assert isinstance(header, pl.Series)
    return packets.with_columns(header.alias("header"))


def _kept(
    packets: pl.DataFrame,
    chosen: NDArray[np.bool_] | None,
    number: int,
    reading: Reading,
    placed: Placed | None = None,
) -> pl.DataFrame:
    """The packets asked for; fragments are held, whose octets are in the records, if these are ``placed``."""
    is_raw = placed is not None or "header" in packets
    flags: list[str] = []
    meant: list[pl.Expr] = []
    if reading.flagged:
        flags = [CHOSEN, OF_FRAGMENTS]
        flag = pl.lit(False) if chosen is None else pl.Series(chosen)
        packets = packets.with_columns(flag.alias(CHOSEN), pl.lit(None, pl.UInt64).alias(OF_FRAGMENTS))
    if reading.fragments is not None and is_raw and packets["frag_key"].null_count() < len(packets):
        rows = packets.select(reading.held.arg_true()).to_series()
        if len(rows):
            held = packets[rows]
            if placed is not None:
                held = _with_octets(held, placed.rows(rows.to_numpy()), reading)
            reading.fragments.add(ordered(held, number, [*reading.fragments.reads, *flags]))
        meant.append(~is_fragment())
    if reading.where is not None and (reading.flagged or is_raw):
        meant.append(reading.where)
    columns = [*reading.columns, *flags]
    if reading.apart:
        columns = [*(name for name in reading.columns if name != "rest"), HEADER_LEN, AT]
    return ordered(packets, number, columns, *meant)


def ordered(packets: pl.DataFrame, number: int, columns: Sequence[str], *where: pl.Expr) -> pl.DataFrame:
    """Those columns of packets of one capture, the one with that ``number``, and their order; of some packets."""
    turn = pl.coalesce("order_time", "time").forward_fill().dt.epoch("ns").fill_null(_NO_TIME)
    chosen = packets.lazy().filter(*where) if where else packets.lazy()
    return chosen.select(*columns, turn.alias(TURN), pl.lit(number, dtype=pl.UInt32).alias(PLACE)).collect()
