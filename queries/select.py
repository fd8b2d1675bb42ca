"""Which packets of datasets and captures filters select: how many, file by file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import polars as pl

from pcap2arrow.errors import FilterError
from queries.filters.compiled import HOST_ORDER_LINK_TYPES, Filter, LinkFilter
from queries.filters.prune import Ranges
from queries.filters.verdicts import no_octets, verdicts

if TYPE_CHECKING:
    from pcap2arrow.dataset.log import Dataset
    from pcap2arrow.dataset.snapshot import DataFile


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

    paths: tuple[str, ...]
    rows: int
    scope: pl.Expr | None = None

    def values(self, columns: Sequence[str]) -> pl.DataFrame:
        """Those columns of all packets."""
        return self._read(columns, self.scope)

    def some(self, columns: Sequence[str], rows: pl.Series, where: pl.Expr | None) -> pl.DataFrame:
        """Those columns of some packets; of few, only the pages that they lie in are read."""
        if where is None or len(rows) > self.rows // 4:
            return self.values(columns)[rows]
        return self._read(columns, where if self.scope is None else self.scope & where)

    def _read(self, columns: Sequence[str], where: pl.Expr | None) -> pl.DataFrame:
        packets = _scan(self.paths)
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
        link_types = file.ranges.get("link_type", (0, 65535))
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
    paths = tuple(dataset.path_of(file.path) for file in files)
    least, greatest = files[0].ranges.get("link_type", (0, 65535))
    may_be_irregular = any(file.ranges.get("irregular", (0, 1))[1] for file in files)
    if least == greatest and least not in HOST_ORDER_LINK_TYPES:
        packets = FilePackets(paths, sum(file.rows for file in files))
        ranges = _common_ranges(files)
        return _count(filters, least, False, packets, ranges=ranges, may_be_irregular=may_be_irregular)
    tally = Tally([0] * len(filters))
    identities = _scan(paths).select("link_type", "capture_id").collect()
    for link_type, is_swapped, rows, scope in _scopes(identities, big_endian):
        part = FilePackets(paths, rows, scope)
        tally.add(_count(filters, link_type, is_swapped, part, may_be_irregular=may_be_irregular))
    return tally


def _common_ranges(files: Sequence[DataFile]) -> dict[str, tuple[int, int]]:
    """The ranges of all files together, of the columns for which each has one."""
    known = set.intersection(*(set(file.ranges) for file in files))
    return {
        column: (min(file.ranges[column][0] for file in files), max(file.ranges[column][1] for file in files))
        for column in known
    }


def _scan(paths: tuple[str, ...]) -> pl.LazyFrame:
    return pl.scan_parquet(list(paths), hive_partitioning=False, glob=False)


def _scopes(
    identities: pl.DataFrame, big_endian: Collection[int]
) -> Iterator[tuple[int, bool, int, pl.Expr]]:
    """Link types, whether in big-endian captures, their packets, and which they are."""
    swapped = pl.col("capture_id").is_in(sorted(big_endian)) & pl.col("link_type").is_in(
        sorted(HOST_ORDER_LINK_TYPES)
    )
    kinds = identities.group_by("link_type", swapped.alias("swapped")).len().sort("link_type", "swapped")
    for link_type, is_swapped, rows in kinds.iter_rows():
        of_type = pl.col("link_type") == link_type
        yield link_type, is_swapped, rows, of_type & (swapped if is_swapped else ~swapped)


def _count(
    filters: Sequence[Filter],
    link_type: int,
    big_endian: bool,
    packets: FilePackets,
    *,
    ranges: Ranges = MappingProxyType({}),
    may_be_irregular: bool = True,
) -> Tally:
    tally = Tally([0] * len(filters), Counter({link_type: len(packets)}))
    compiled: dict[int, LinkFilter] = {}
    for place, each in enumerate(filters):
        try:
            compiled[place] = each.for_link_type(link_type, big_endian=big_endian).within(ranges)
        except FilterError as error:
            tally.errors[place, link_type] = error
    answers = verdicts(list(compiled.values()), packets, may_be_irregular=may_be_irregular)
    for place, answer in zip(compiled, answers, strict=True):
        tally.packets[place] = int(answer.sum())
    return tally


def total(tallies: Iterable[Tally], filters: int) -> Tally:
    """The sum of what was counted."""
    result = Tally([0] * filters)
    for tally in tallies:
        result.add(tally)
    return result
