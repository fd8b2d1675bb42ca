"""``pcap2arrow.compact``: small files of a dataset into large ones, while it is read and written."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from pcap2arrow.compaction.plan import TARGET, Join, Place, plan_joins, plan_moves
from pcap2arrow.compaction.write import write_join
from pcap2arrow.dataset.log import Dataset, open_dataset
from pcap2arrow.dataset.snapshot import Change, DataFile, Snapshot


@dataclass(frozen=True, slots=True)
class CompactionReport:
    """What was compacted (on a dry run: would be): ``before`` files of so many ``octets_before``, ``after`` that fewer.

    ``files`` are the paths of those that were written.  ``left`` counts those that came to nothing, since captures of
    theirs left the dataset meanwhile; the small files are as they were.  ``octets_after`` is None on a dry run.
    """

    before: int
    after: int
    octets_before: int
    octets_after: int | None
    files: tuple[str, ...]
    left: int = 0


def compact(
    dataset: str | os.PathLike[str],
    *,
    target: int = TARGET,
    workers: int | None = None,
    dry_run: bool = False,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> CompactionReport:
    """Put small files of a dataset together to files of about ``target`` octets, in one commit.

    What the dataset holds stays the same, octet for octet, and so does every answer.  Readers keep the files that they
    have opened: the small ones go at a :func:`vacuum`.  Killed, it leaves nothing that counts.  ``workers`` files are
    written at once, as many as there are cores unless given.  ``watch`` is called with the octets that are read so far,
    and those to read.  Raises DatasetError where there is no dataset, or a file can't be read or written.

    >>> pcap2arrow.compact("dataset").before                                                       # doctest: +SKIP
    3000
    """
    opened = open_dataset(dataset)
    joins = plan_joins(opened.snapshot(), target=target)
    if dry_run:
        return _report(joins, None)
    done, total = 0, sum(join.octets for join in joins)
    written: list[dict[Place, DataFile]] = []
    watch(done, total)
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as executor:
        try:
            for join, moved in zip(joins, executor.map(partial(write_join, opened), joins), strict=True):
                written.append(moved)
                done += join.octets
                watch(done, total)
        except BaseException:
            executor.shutdown(wait=True, cancel_futures=True)
            raise
    return _report(joins, _commit(opened, written))


def _commit(dataset: Dataset, written: Sequence[dict[Place, DataFile]]) -> list[dict[Place, DataFile]]:
    """Have the dataset name the files written; the result is those of which all rows are live still."""
    kept: list[dict[Place, DataFile]] = []

    def build(snapshot: Snapshot) -> Change:
        live = {file.place for capture in snapshot.captures.values() for file in capture.files}
        kept[:] = [moved for moved in written if moved.keys() <= live]
        return plan_moves(snapshot, {place: file for moved in kept for place, file in moved.items()})

    dataset.commit(build)
    return kept


def _report(joins: Sequence[Join], kept: Sequence[dict[Place, DataFile]] | None) -> CompactionReport:
    """``kept`` is None on a dry run, which counts all joins."""
    sizes = {file.path: file.size for moved in kept or () for file in moved.values()}
    counted = [join for join in joins if kept is None or join.path in sizes]
    return CompactionReport(
        before=sum(len(join.files) for join in counted),
        after=len(counted),
        octets_before=sum(join.octets for join in counted),
        octets_after=None if kept is None else sum(sizes.values()),
        files=tuple(sizes),
        left=len(joins) - len(counted),
    )
