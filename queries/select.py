"""Which packets of datasets and captures filters select: how many, file by file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

from pcap2arrow.errors import FilterError
from pcap2arrow.urls import polars_options
from queries.filters.compiled import HOST_ORDER_LINK_TYPES, Filter, LinkFilter
from queries.filters.prune import Ranges
from queries.filters.verdicts import no_octets, verdicts

if TYPE_CHECKING:
    from pcap2arrow.dataset.log import Dataset
    from pcap2arrow.dataset.snapshot import DataFile


ANY_LINK_TYPE = 0, 65535
"""The range of a file that has none."""

Place = tuple[str, tuple[int, int] | None]
"""A file's path or URL, and of its rows the first and how many (None: all)."""

_GROUP_ROWS, _GROUP_ROWS_WITHOUT_OCTETS = 1 << 19, 1 << 21


@dataclass(slots=True)
class Tally:
    """How many packets each of several filters selects.

    ``packets`` are the counts, in the order of the filters; ``seen`` how many packets there are of each link type;
    ``errors`` are those of a filter (its place) for a link type, of which it selects nothing.
    """

    packets: list[int]
    seen: Counter[int] = field(default_factory=Counter)
    errors: dict[tuple[int, int], FilterError] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Add what was counted elsewhere."""
        self.packets = [a + b for a, b in zip(self.packets, other.packets, strict=True)]
        self.seen += other.seen
        self.errors |= other.errors

    def refusal(self, place: int) -> FilterError | None:
        """The error of a filter that means nothing on any link type that there is."""
        wrong = [error for (filter_place, _), error in self.errors.items() if filter_place == place]
        return wrong[0] if wrong and len(wrong) == len(self.seen) else None


@dataclass(frozen=True, slots=True)
class FilePackets:
    """Packets of Parquet files, those of ``scope`` (None: all); columns are read when they are asked for."""

    places: tuple[Place, ...]
    rows: int
    scope: pl.Expr | None = None

    def values(self, expressions: Mapping[str, pl.Expr]) -> pl.DataFrame:
        """The values of expressions of columns for all packets, under their names; the columns are not kept."""
        return self._read([each.alias(name) for name, each in expressions.items()], self.scope)

    def some(self, columns: Sequence[str], rows: pl.Series, where: pl.Expr | None) -> pl.DataFrame:
        """Those columns of some packets; of few, only the pages that they lie in are read."""
        if where is None or len(rows) > self.rows // 4:
            return self._read(columns, self.scope)[rows]
        return self._read(columns, where if self.scope is None else self.scope & where)

    def _read(self, columns: Sequence[str | pl.Expr], where: pl.Expr | None) -> pl.DataFrame:
        packets = _scan(self.places)
        try:
            return (packets if where is None else packets.filter(where)).select(columns).collect()
        except pl.exceptions.ColumnNotFoundError:
            raise no_octets() from None

    @property
    def has_heads(self) -> bool:
        """Whether the first octets of irregular packets are apart, as in every dataset with octets."""
        return True

    def __len__(self) -> int:
        return self.rows


def groups(files: Iterable[DataFile], filters: Sequence[Filter]) -> Iterator[list[DataFile]]:
    """Files that are best read together: so many packets, of the same link types, as memory has room for."""
    by_link_type: dict[tuple[int, int], list[DataFile]] = {}
    for file in files:
        link_types = file.ranges.get("link_type", ANY_LINK_TYPE)
        group = by_link_type.setdefault(link_types, [])
        if group and sum(each.rows for each in group) + file.rows > _most_rows(filters, link_types):
            yield group.copy()
            group.clear()
        group.append(file)
    yield from by_link_type.values()


def _most_rows(filters: Sequence[Filter], link_types: tuple[int, int]) -> int:
    least, greatest = link_types
    few_octets = least == greatest and not any(_reads_octets(each, least) for each in filters)
    return _GROUP_ROWS_WITHOUT_OCTETS if few_octets else _GROUP_ROWS


def _reads_octets(chosen: Filter, link_type: int) -> bool:
    """Whether a filter reads octets of regular frames."""
    try:
        plan = chosen.for_link_type(link_type).columns
    except FilterError:
        return False
    return plan is None or not plan.complete


@dataclass(frozen=True, slots=True)
class Part:
    """Packets of files that filters read alike: of one link type, in captures of one byte order.

    ``rows`` are their places in the files together (ascending; None: all); ``ranges`` those of the files' columns.
    """

    link_type: int
    big_endian: bool
    packets: FilePackets
    rows: pl.Series | None
    ranges: Ranges


def parts(dataset: Dataset, files: Sequence[DataFile], *, swapped: pl.Expr) -> Iterator[Part]:
    """Files of packets, by what filters need to know of them; ``swapped`` tells those of big-endian captures."""
    places = tuple(_place(dataset, file) for file in files)
    ranges = _common_ranges(files)
    least, greatest = ranges.get("link_type", ANY_LINK_TYPE)
    if least == greatest and least not in HOST_ORDER_LINK_TYPES:
        yield Part(least, False, FilePackets(places, sum(file.rows for file in files)), None, ranges)
        return
    swapped &= pl.col("link_type").is_in(sorted(HOST_ORDER_LINK_TYPES))
    kinds = _scan(places).select("link_type", swapped.alias("swapped")).collect()
    for link_type, is_swapped in kinds.unique().sort("link_type", "swapped").iter_rows():
        is_it = (pl.col("link_type") == link_type) & (pl.col("swapped") == is_swapped)
        rows = kinds.select(is_it.arg_true()).to_series()
        scope = (pl.col("link_type") == link_type) & (swapped if is_swapped else ~swapped)
        yield Part(link_type, is_swapped, FilePackets(places, len(rows), scope), rows, ranges)


def _common_ranges(files: Sequence[DataFile]) -> dict[str, tuple[int, int]]:
    """The ranges of all files together, of the columns for which each has one."""
    known = set.intersection(*(set(file.ranges) for file in files))
    return {
        column: (min(file.ranges[column][0] for file in files), max(file.ranges[column][1] for file in files))
        for column in known
    }


def _place(dataset: Dataset, file: DataFile) -> Place:
    return dataset.path_of(file.path), (file.stretch.first, file.rows) if file.stretch else None


def _scan(places: tuple[Place, ...]) -> pl.LazyFrame:
    options = polars_options(places[0][0])

    def scan(paths: list[str]) -> pl.LazyFrame:
        return pl.scan_parquet(paths, hive_partitioning=False, glob=False, storage_options=options)

    if all(rows is None for _, rows in places):
        return scan([path for path, _ in places])
    parts = [(scan([path]), rows) for path, rows in places]
    return pl.concat(part if rows is None else part.slice(*rows) for part, rows in parts)


def compiled(
    filters: Sequence[Filter], link_type: int, *, big_endian: bool, tally: Tally
) -> dict[int, LinkFilter]:
    """The filters that mean something on a link type, by their places; the errors of others go to the tally."""
    result: dict[int, LinkFilter] = {}
    for place, each in enumerate(filters):
        try:
            result[place] = each.for_link_type(link_type, big_endian=big_endian)
        except FilterError as error:
            tally.errors[place, link_type] = error
    return result


def selected(filters: Sequence[Filter], part: Part, tally: Tally) -> dict[int, pl.Series]:
    """Which packets of a part the filters select, by their places; errors, and what was seen, go to the tally.

    Raises UsageError where a filter needs octets that the dataset does not store.
    """
    tally.seen[part.link_type] += len(part.packets)
    found = compiled(filters, part.link_type, big_endian=part.big_endian, tally=tally)
    within = [each.within(part.ranges) for each in found.values()]
    may_be_irregular = part.ranges.get("irregular", (0, 1))[1] == 1
    return dict(zip(found, verdicts(within, part.packets, may_be_irregular=may_be_irregular), strict=True))


def count_files(
    filters: Sequence[Filter],
    dataset: Dataset,
    files: Sequence[DataFile],
    *,
    big_endian: Collection[int] = (),
) -> Tally:
    """How many packets each filter selects of a group of a dataset's files (see :func:`groups`).

    ``big_endian`` is as in :func:`table_verdicts`.  Raises UsageError where a filter needs octets that the dataset
    does not store.
    """
    tally = Tally([0] * len(filters))
    for part in parts(dataset, files, swapped=pl.col("capture_id").is_in(sorted(big_endian))):
        for place, answer in selected(filters, part, tally).items():
            tally.packets[place] += int(answer.sum())
    return tally


def total(tallies: Iterable[Tally], filters: int) -> Tally:
    """The sum of what was counted."""
    result = Tally([0] * filters)
    for tally in tallies:
        result.add(tally)
    return result
