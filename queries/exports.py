"""The packets that filters select, as an export asks for them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from pcap2arrow.errors import FilterError
from queries.filters.compiled import Filter, LinkFilter
from queries.filters.machine.frames import Frames, Slices
from queries.filters.machine.run import run
from queries.filters.verdicts import verdicts
from queries.select import FilePackets, Tally

if TYPE_CHECKING:
    from pcap2arrow.dataset.log import Dataset
    from pcap2arrow.dataset.snapshot import DataFile
    from pcap2arrow.savefile.batch import Records
    from pcap2arrow.writing.selection import Chosen

_ANY_LINK_TYPE = 0, 65535


@dataclass(slots=True)
class FilterSelection:
    """What each of some filters selects, for a capture to write of each: a ``Selection`` of exports.

    ``tally`` tells the link types that were seen, and the errors of filters for them; what is selected it does not
    count.

    >>> chosen = FilterSelection([compile_filter("tcp port 443")])
    >>> pcap2arrow.export("dataset", "https.pcap", selection=chosen).packets                      # doctest: +SKIP
    678
    """

    filters: Sequence[Filter]
    tally: Tally = field(init=False)

    def __post_init__(self) -> None:
        self.tally = Tally([0] * len(self.filters))

    def begin(self, link_types: Collection[int]) -> list[int]:
        """The filters that mean something on any of the link types, all if there is no packet.

        Raises FilterError, that of the first filter, where there is none.
        """
        self.tally.seen.update(link_types)
        for link_type in link_types:
            dict(self._compiled(link_type, big_endian=False))
        refusals = [self.tally.refusal(place) for place in range(len(self.filters))]
        if refusals and refusals[0] is not None and None not in refusals:
            raise refusals[0]
        return [place for place, refusal in enumerate(refusals) if refusal is None]

    def of_records(self, records: Records, *, big_endian: bool) -> Chosen:
        """What the filters select of some records."""
        chosen = np.zeros((len(records), len(self.filters)), np.bool_)
        for link_type in np.unique(records.link_type).tolist():
            rows = np.flatnonzero(records.link_type == link_type)
            self.tally.seen[link_type] += len(rows)
            frames = _frames(records if len(rows) == len(records) else records.rows(rows))
            for place, compiled in self._compiled(link_type, big_endian=big_endian):
                chosen[rows, place] = run(compiled.plan, frames)
        return chosen

    def of_file(self, dataset: Dataset, file: DataFile, *, big_endian: bool) -> Chosen:
        """What the filters select of the packets of a dataset's file.

        Raises UsageError where a filter needs octets that the dataset does not store.
        """
        paths = (dataset.path_of(file.path),)
        may_be_irregular = file.ranges.get("irregular", (0, 1))[1] == 1
        chosen = np.zeros((file.rows, len(self.filters)), np.bool_)
        for link_type, rows, scope in _scopes(paths, file):
            packets = FilePackets(paths, file.rows if rows is None else len(rows), scope)
            compiled = {
                place: each.within(file.ranges) if rows is None else each
                for place, each in self._compiled(link_type, big_endian=big_endian)
            }
            answers = verdicts(list(compiled.values()), packets, may_be_irregular=may_be_irregular)
            for place, answer in zip(compiled, answers, strict=True):
                chosen[slice(None) if rows is None else rows, place] = answer.to_numpy()
        return chosen

    def _compiled(self, link_type: int, *, big_endian: bool) -> Iterator[tuple[int, LinkFilter]]:
        """The filters that mean something on a link type, with their places."""
        for place, each in enumerate(self.filters):
            try:
                yield place, each.for_link_type(link_type, big_endian=big_endian)
            except FilterError as error:
                self.tally.errors[place, link_type] = error


def _frames(records: Records) -> Frames:
    octets = Slices.of_buffer(records.data, records.packet, records.caplen.astype(np.int64))
    return Frames(octets, records.filter_len, records.frame_len)


def _scopes(
    paths: tuple[str, ...], file: DataFile
) -> Iterator[tuple[int, np.ndarray | None, pl.Expr | None]]:
    """Link types of a file's packets, which rows these are, and the same as an expression; None: all."""
    least, greatest = file.ranges.get("link_type", _ANY_LINK_TYPE)
    if least == greatest:
        yield least, None, None
        return
    column = FilePackets(paths, file.rows).values(["link_type"])["link_type"].to_numpy()
    for link_type in np.unique(column).tolist():
        yield link_type, np.flatnonzero(column == link_type), pl.col("link_type") == link_type
