"""Records that occur more than once: of several captures at the same time, or shortly one after another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pcap2arrow.errors import UsageError
from pcap2arrow.writing.records.encoded import Encoded, rows_of_details
from pcap2arrow.writing.records.formats import UnkeptError
from pcap2arrow.writing.records.pieces import joined

if TYPE_CHECKING:
    import polars as pl

_Rows = NDArray[np.intp]
_MOST_PACKETS = 1_000_000
_KEY = ["time", "lengths", "octets", "more"]


@dataclass(frozen=True, slots=True)
class AcrossSources:
    """A packet is a duplicate where its time, lengths and octets occur in a capture that stands earlier.

    Encoded that occur more than once in one capture are none.  Source: tcpslice(1).
    """


@dataclass(frozen=True, slots=True)
class Recent:
    """A packet is a duplicate where its octets occurred shortly before, as for editcap(1).

    With ``packets`` (``editcap -D``) in one of so many packets of which it is the last, with ``nanoseconds``
    (``editcap -w``) at most so long ago, by the greatest time so far.  Raises UsageError where neither is given.
    """

    packets: int | None = None
    nanoseconds: int | None = None

    def __post_init__(self) -> None:
        if (self.packets is None) is (self.nanoseconds is None):
            raise UsageError("duplicates: expected a number of packets, or a length of time")
        if self.packets is not None and not 0 <= self.packets <= _MOST_PACKETS:
            raise UsageError(f"duplicates: expected at most {_MOST_PACKETS:,} packets, found {self.packets}")
        if self.nanoseconds is not None and self.nanoseconds < 0:
            raise UsageError("duplicates: a length of time is not below 0")


@dataclass(frozen=True, slots=True)
class LastWritten:
    """A packet is a duplicate of the one before that was kept: same time, lengths and octets, from another capture.

    Where several packets have one time, what is kept depends on their order.  This is what tcpslice 1.5 does.
    """


Duplicates = AcrossSources | LastWritten | Recent


OF_SOURCES = AcrossSources, LastWritten
"""Kinds of duplicates that are those of several captures."""


class Sieve(Protocol):
    """Tells of one batch after another which packets are no duplicates."""

    def kept(self, packets: Encoded) -> NDArray[np.bool_]:
        """Which packets are kept."""


def without_duplicates(batches: Iterator[Encoded], sieve: Sieve) -> Iterator[Encoded]:
    """The packets that a sieve keeps."""
    for batch in batches:
        kept = sieve.kept(batch)
        if kept.all():
            yield batch
        elif kept.any():
            yield batch.take(np.flatnonzero(kept))


class _Prints:
    """Fingerprints of packets: 128 bits of each one's octets, by a key of their own, so that nobody can aim at one."""

    def __init__(self) -> None:
        self._seeds = [int.from_bytes(os.urandom(8)) for _ in range(2)]

    def of(self, packets: Encoded, rows: _Rows) -> pl.DataFrame:
        """Columns ``lengths``, ``octets`` and ``more`` for some of the packets, as many rows."""
        import polars as pl

        some, known = packets.frames(rows), rows_of_details(packets.known, rows)
        ends = np.concatenate([[0], np.cumsum(some.length)])
        buffers = [None, pa.py_buffer(ends), joined([some])]
        frames = pl.Series(pa.Array.from_buffers(pa.large_binary(), len(rows), buffers))
        octets, more = (frames.hash(seed) for seed in self._seeds)
        lengths = pl.Series((known["caplen"] << 32 | known["frame_len"]).view(np.uint64))
        return pl.DataFrame({"lengths": lengths, "octets": octets, "more": more})

    def dated(self, packets: Encoded, rows: _Rows) -> pl.DataFrame:
        """The same with ``time`` and ``source``."""
        import polars as pl

        known = rows_of_details(packets.known, rows)
        time, source = (pl.Series(np.ascontiguousarray(known[name])) for name in ("time", "source"))
        return self.of(packets, rows).with_columns(time=time, source=source).select(*_KEY, "source")


class AcrossSieve:
    """Drops what occurs at the same time in a capture that stands earlier; packets come in the order of the merge.

    What has the same time then comes together, but for packets that step back in time: what is known of these, and of
    all packets of their times, is found before (by ``again``, which reads all packets once more); where it is None, no
    packet may step back.  Memory holds 32 octets for each of those, and for each packet of the time that the merge has
    arrived at.
    """

    def __init__(self, again: Callable[[], Iterable[Encoded]] | None) -> None:
        self._prints = _Prints()
        self._may_step = again is not None
        self._stepping = np.empty(0, np.int64)
        self._known: pl.DataFrame | None = None
        self._now: int | None = None
        if again is not None:
            self._look_ahead(again)

    def _look_ahead(self, again: Callable[[], Iterable[Encoded]]) -> None:
        import polars as pl

        stepping = [np.empty(0, np.int64)]
        for batch in again():
            stepping.append(np.unique(batch.known["time"][_steps_back(batch)]))
        self._stepping = np.unique(np.concatenate(stepping))
        found = []
        for batch in again():
            rows = np.flatnonzero(batch.known["timed"] & _in_sorted(batch.known["time"], self._stepping))
            if len(rows):
                found.append(self._prints.dated(batch, rows))
        if found:
            self._known = _first_sources(pl.concat(found))

    def kept(self, packets: Encoded) -> NDArray[np.bool_]:
        """Which packets are no duplicates.  Raises UnkeptError where one steps back that may not."""
        import polars as pl

        if not self._may_step and _steps_back(packets).any():
            raise UnkeptError
        kept = np.ones(len(packets), np.bool_)
        arrived = int(packets.order[-1])
        rows = np.flatnonzero(packets.known["timed"] & self._may_repeat(packets, arrived))
        if not len(rows):
            self._arrive(arrived, None)
            return kept
        found = self._prints.dated(packets, rows)
        everything = found.lazy() if self._known is None else pl.concat([found, self._known]).lazy()
        first = everything.select(pl.col("source").min().over(_KEY)).collect().to_series()[: len(rows)]
        kept[rows] = (found["source"] <= first).to_numpy()
        self._arrive(arrived, found.filter(pl.col("time") == arrived))
        return kept

    def _may_repeat(self, packets: Encoded, arrived: int) -> NDArray[np.bool_]:
        """Encoded whose time occurs in several captures, or which others may share that come later or came before."""
        known = packets.known
        by_time = np.argsort(known["time"], kind="stable")
        time, source = known["time"][by_time], known["source"][by_time]
        starts = np.flatnonzero(np.concatenate([[True], time[1:] != time[:-1]]))
        several = np.minimum.reduceat(source, starts) != np.maximum.reduceat(source, starts)
        several |= np.isin(time[starts], [arrived, arrived if self._now is None else self._now])
        several |= _in_sorted(time[starts], self._stepping)
        result = np.empty(len(packets), np.bool_)
        result[by_time] = np.repeat(several, np.diff(np.append(starts, len(time))))
        return result

    def _arrive(self, now: int, found: pl.DataFrame | None) -> None:
        """Forget what is known of earlier times, but for those that packets step back to."""
        import polars as pl

        parts = [] if found is None else [found]
        if self._known is not None:
            kept = self._known
            if now != self._now:
                kept = kept.filter(pl.col("time").is_in(pl.Series(self._stepping).implode()))
            parts.append(kept)
        self._known, self._now = _first_sources(pl.concat(parts)) if parts else None, now


def _steps_back(packets: Encoded) -> NDArray[np.bool_]:
    result: NDArray[np.bool_] = packets.known["timed"] & (packets.known["time"] != packets.order)
    return result


def _first_sources(prints: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    return prints.group_by(_KEY).agg(pl.col("source").min())


def _in_sorted(values: NDArray[np.int64], among: NDArray[np.int64]) -> NDArray[np.bool_]:
    if not len(among):
        return np.zeros(len(values), np.bool_)
    place = np.minimum(np.searchsorted(among, values), len(among) - 1)
    found: NDArray[np.bool_] = among[place] == values
    return found


class RecentSieve:
    """Drops what occurred shortly before, packets that were dropped themselves among it."""

    def __init__(self, of: Recent) -> None:
        self._of = of
        self._prints = _Prints()
        self._waiting: pl.DataFrame | None = None
        self._count = 0
        self._clock = np.iinfo(np.int64).min

    def kept(self, packets: Encoded) -> NDArray[np.bool_]:
        """Which packets are no duplicates."""
        import polars as pl

        clock = np.maximum(np.maximum.accumulate(packets.order), self._clock)
        number = self._count + np.arange(len(packets))
        self._clock, self._count = int(clock[-1]), self._count + len(packets)
        place, reach = (
            (number, self._of.packets - 1) if self._of.packets is not None else (clock, self._of.nanoseconds)
        )
        assert reach is not None
        prints = self._prints.of(packets, np.arange(len(packets)))
        caplen = pl.Series(np.ascontiguousarray(packets.known["caplen"]))
        prints = prints.select("octets", "more", caplen=caplen, place=pl.Series(place))
        all_ = prints if self._waiting is None else pl.concat([self._waiting, prints])
        before = pl.col("place").shift(1).over("octets", "more", "caplen")
        repeats = all_.select((pl.col("place") - before <= reach).fill_null(value=False)).to_series()
        self._waiting = all_.filter(pl.col("place") >= int(place[-1]) - reach)
        return ~repeats.tail(len(packets)).to_numpy()


class LastSieve:
    """Drops what is the same as the packet kept before it, unless that is of the same capture.

    Of packets in a row that are all the same, those of the first one's capture are kept.
    """

    def __init__(self) -> None:
        self._prints = _Prints()
        self._first: pl.DataFrame | None = None

    def kept(self, packets: Encoded) -> NDArray[np.bool_]:
        """Which packets are no duplicates."""
        import polars as pl

        kept = np.ones(len(packets), np.bool_)
        time = packets.known["time"]
        same_time = np.concatenate([[False], time[1:] == time[:-1]])
        rows = np.flatnonzero(same_time | np.append(same_time[1:], False))
        rows = np.union1d(rows, [0, len(packets) - 1])
        found = self._prints.dated(packets, rows)
        before = 0 if self._first is None else len(self._first)
        everything = found if self._first is None else pl.concat([self._first, found])
        row = pl.struct(_KEY).rle_id()
        everything = everything.with_columns(first=pl.col("source").first().over(row))
        kept[rows] = (everything["source"] == everything["first"]).to_numpy()[before:]
        self._first = everything.tail(1).select(*_KEY, source="first")
        kept[~packets.known["timed"]] = True
        return kept


def sieve(of: Duplicates, again: Callable[[], Iterable[Encoded]] | None) -> Sieve:
    """The sieve for duplicates of that kind; ``again`` reads all packets again, None where none steps back."""
    match of:
        case AcrossSources():
            return AcrossSieve(again)
        case LastWritten():
            return LastSieve()
        case Recent():
            return RecentSieve(of)


def parse_duplicates(text: str) -> Duplicates:
    """``sources``, ``window=N`` or ``seconds=S``.  Raises UsageError."""
    kind, _, value = text.partition("=")
    digits = value.replace(".", "", 1)
    if kind == "sources" and not value:
        return AcrossSources()
    if kind == "window" and value.isascii() and value.isdigit():
        return Recent(packets=int(value))
    if kind == "seconds" and digits.isascii() and digits.isdigit():
        whole, _, part = value.partition(".")
        return Recent(nanoseconds=int(whole or "0") * 10**9 + int(part[:9].ljust(9, "0") or "0"))
    raise UsageError(f"{text!r}: expected sources, window=N (packets) or seconds=S")
