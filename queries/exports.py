"""The packets that filters select, as an export asks for them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from queries.filters.compiled import Filter
from queries.filters.machine.frames import Frames, Slices
from queries.filters.machine.run import run
from queries.select import Tally, compiled, parts, selected

if TYPE_CHECKING:
    from pcap2arrow.dataset.log import Dataset
    from pcap2arrow.dataset.snapshot import DataFile
    from pcap2arrow.savefile.batch import Records
    from pcap2arrow.writing.records.selection import Chosen


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
            compiled(self.filters, link_type, big_endian=False, tally=self.tally)
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
            found = compiled(self.filters, link_type, big_endian=big_endian, tally=self.tally)
            for place, each in found.items():
                chosen[rows, place] = run(each.plan, frames)
        return chosen

    def of_file(self, dataset: Dataset, file: DataFile, *, big_endian: bool) -> Chosen:
        """What the filters select of the packets of a dataset's file.

        Raises UsageError where a filter needs octets that the dataset does not store.
        """
        chosen = np.zeros((file.rows, len(self.filters)), np.bool_)
        for part in parts(dataset, [file], swapped=pl.lit(big_endian)):
            rows = slice(None) if part.rows is None else part.rows.to_numpy()
            for place, answer in selected(self.filters, part, self.tally).items():
                chosen[rows, place] = answer.to_numpy()
        return chosen


def _frames(records: Records) -> Frames:
    octets = Slices.of_buffer(records.data, records.packet, records.caplen.astype(np.int64))
    return Frames(octets, records.filter_len, records.frame_len)
