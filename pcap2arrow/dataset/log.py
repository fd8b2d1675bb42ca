"""The log of a dataset: numbered entries, each created only if absent; readers see what they add up to.

``_manifest/<20 digits>.json`` is entry N, which leads from version N - 1 to version N.  Entry 0 makes the
dataset.  ``_manifest/checkpoints/<20 digits>.parquet`` sums up all entries to that version, and can be done
without.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, BinaryIO

from pcap2arrow.dataset.change import plan_removal
from pcap2arrow.dataset.checkpoint import decode_checkpoint, encode_checkpoint
from pcap2arrow.dataset.entry import Entry, decode_entry, encode_entry
from pcap2arrow.dataset.recent import Recent
from pcap2arrow.dataset.snapshot import Change, Snapshot, check_path
from pcap2arrow.dataset.store import OutputFile, Store, create, open_store, probe
from pcap2arrow.errors import ConflictError, DatasetError

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "_manifest"
CHECKPOINTS = f"{MANIFEST}/checkpoints"

_LONGEST_BATCH = 64

_logger = logging.getLogger(__name__)


def create_dataset(
    url: str | os.PathLike[str] | Store, *, settings: Mapping[str, str], exist_ok: bool = False
) -> Dataset:
    """Make an empty dataset at a path or URL (see :func:`~pcap2arrow.dataset.store.open_store`).

    ``settings`` (schema version, who made it, …) never change; :attr:`Dataset.settings` gives them back.
    With ``exist_ok`` a dataset that is already there is opened, whatever its settings: of several jobs that
    create one at the same time, one makes it and the others open it.

    Raises:
        DatasetError: if there is a dataset and not ``exist_ok``; if the folder holds anything else; if the
            store would let two writers overwrite each other (it is probed); if it can't be written.

    Example:
        >>> dataset = create_dataset("archive", settings={"schema": "1"})  # doctest: +SKIP
    """
    store = open_store(url)
    if store.read(entry_path(0)) is None:
        _refuse_other_contents(store)
        probe(store)
        entry = Entry(uuid.uuid4().hex, 0, settings=dict(settings))
        if create(store, entry_path(0), encode_entry(entry)):
            return Dataset(store, entry.settings)
    if not exist_ok:
        raise DatasetError(f"{store.url}: there is a dataset already")
    return open_dataset(store)


def open_dataset(url: str | os.PathLike[str] | Store) -> Dataset:
    """Open the dataset at a path or URL; its log is read at the first :meth:`Dataset.snapshot`.

    Raises:
        DatasetError: if there is none, if it is damaged, or if a newer release wrote it.
    """
    store = open_store(url)
    data = store.read(entry_path(0))
    if data is None:
        raise DatasetError(f"{store.url}: no dataset here (there is no {entry_path(0)})")
    return Dataset(store, decode_entry(data, path=store.location(entry_path(0))).settings)


class Dataset:
    """A dataset that is open; made by :func:`open_dataset` and :func:`create_dataset`.

    It can be pickled for workers, and used by several threads.  It remembers the newest version that it has
    seen, so that the next look at the log only reads what has come since; ``recent`` is what was last read of files.
    """

    checkpoint_every = 100
    """Number of versions from one checkpoint to the next."""

    def __init__(self, store: Store, settings: Mapping[str, str]) -> None:
        self.store = store
        self.settings = settings
        self.recent = Recent()
        self._newest: Snapshot | None = None
        self._checkpointed = 0

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.store, dict(self.settings))

    def __repr__(self) -> str:
        return f"Dataset({self.url!r})"

    @property
    def url(self) -> str:
        """Where it is: an absolute path, or a URL."""
        return self.store.url

    def snapshot(self, version: int | None = None) -> Snapshot:
        """What the dataset held at a version; None asks for the newest.

        Raises:
            DatasetError: if there is no such version yet, or the log is damaged, or a newer release wrote it.
        """
        newest = self._newest
        if version is None:
            start = newest or self._checkpoint(None)
            changes = self._changes(start.version + 1)
            self._newest = newest = self._replay(start, changes)
            return newest
        if newest is None or version < newest.version:
            newest = self._checkpoint(version)
        snapshot = self._replay(newest, self._changes(newest.version + 1, version))
        if snapshot.version != version or version < 0:
            raise DatasetError(f"{self.url}: there is no version {version}")
        return snapshot

    def commit(self, build: Callable[[Snapshot], Change]) -> Snapshot:
        """Commit the change that ``build`` makes of the newest snapshot; the result is the snapshot after it.

        ``build`` is called again on a newer snapshot whenever another writer came first, so it has to decide
        from its argument alone (:func:`plan_change` does).  All of the change becomes visible at once, or
        nothing.  An empty change writes nothing.  Files that the change adds have to be there already.  Files
        that captures of the change shared with others are written anew for these.

        Raises:
            ConflictError: from ``build``, or because the change contradicts the snapshot.
            DatasetError: if a file that it adds is missing or of another size, or the entry can't be written.

        Example:
            >>> dataset.commit(lambda snapshot: plan_change(snapshot, [capture]))  # doctest: +SKIP
        """
        while True:
            snapshot = self.snapshot()
            change = build(snapshot)
            if not change:
                return snapshot
            change = self._without_dead_rows(snapshot, change)
            after = snapshot.after(change)
            self._check_files(snapshot, change)
            entry = Entry(uuid.uuid4().hex, after.version, change)
            if create(self.store, entry_path(after.version), encode_entry(entry)):
                self._newest = after
                self._write_checkpoint_if_due(after)
                return after

    def _without_dead_rows(self, snapshot: Snapshot, change: Change) -> Change:
        """``change``, and what it leaves of files that captures shared in files of its own.

        All rows of a live file are live: other tools read it whole.
        """
        leaving = (snapshot.captures[name] for name in change.remove if name in snapshot.captures)
        if not any(file.stretch for capture in leaving for file in capture.files):
            return change
        from pcap2arrow.compaction.plan import plan_leavings, with_moves
        from pcap2arrow.compaction.write import write_join

        joins = plan_leavings(snapshot, change)
        moved = {place: file for join in joins for place, file in write_join(self, join).items()}
        return with_moves(snapshot, change, moved) if moved else change

    def path_of(self, path: str) -> str:
        """Absolute path or URL of a data file, as other tools take it."""
        check_path(path)
        return self.store.location(path)

    def open_output(self, path: str, *, sync: bool = True) -> AbstractContextManager[OutputFile]:
        """A binary file to write a data file to; it is published when the context ends without an error.

        Until then nobody sees it, and after an error nothing is left.  A file of that name is replaced: names
        derive from content, so it holds the same, and it counts as new for :func:`vacuum`.  Without ``sync``
        it may be lost when the machine loses power, even after a commit.

        Raises:
            DatasetError: if the path is no data file's, or writing fails (disk full, …).

        Example:
            >>> with dataset.open_output("packets/date=none/ab.parquet") as file:  # doctest: +SKIP
            ...     pyarrow.parquet.write_table(table, file)
            >>> held = DataFile("packets/date=none/ab.parquet", "packets", 7, file.size)  # doctest: +SKIP
        """
        check_path(path)
        return self.store.output(path, sync=sync)

    def open_input(self, path: str, *, size: int | None = None) -> BinaryIO | pa.NativeFile:
        """A data file open for reading at any offset; its ``size``, where it is known, saves a request.

        Raises:
            DatasetError: if it is missing or can't be read.
        """
        check_path(path)
        return self.store.input(path, size=size)

    def changes(self, first: int) -> tuple[Change, ...]:
        """Changes of the versions from ``first`` to the newest."""
        return tuple(self._changes(first))

    def _replay(self, snapshot: Snapshot, changes: list[Change]) -> Snapshot:
        """The snapshot after changes that the log holds."""
        try:
            return snapshot.after(*changes) if changes else snapshot
        except ConflictError as error:
            raise DatasetError(f"{self.url}: the log is damaged: {error}") from error

    def _changes(self, first: int, last: int | None = None) -> list[Change]:
        """Changes of the versions from ``first`` to ``last``, or as far as there are any."""
        changes: list[Change] = []
        batch = 1
        while last is None or first <= last:
            stop = first + batch if last is None else min(first + batch, last + 1)
            entries = list(self._entries(range(first, stop)))
            changes += [entry.change for entry in entries]
            if len(entries) < stop - first:
                break
            first, batch = stop, min(2 * batch, _LONGEST_BATCH)
        return changes

    def _entries(self, versions: range) -> Iterator[Entry]:
        """Entries of these versions as far as there are any."""
        found = self.store.read_many([entry_path(version) for version in versions])
        for position, version in enumerate(versions):
            data = found[position]
            if data is None and any(found[position:]):  # made between two reads of the batch, or lost
                data = self.store.read(entry_path(version))
                if data is None:
                    raise DatasetError(f"{self.url}: the log is damaged: {entry_path(version)} is missing")
            if data is None:
                return
            entry = decode_entry(data, path=self.store.location(entry_path(version)))
            if entry.version != version:
                raise DatasetError(f"{self.store.location(entry_path(version))}: is entry {entry.version}")
            yield entry

    def _check_files(self, snapshot: Snapshot, change: Change) -> None:
        """Make sure that all files that a change adds are there: a vacuum may have taken one for stray."""
        known = [snapshot.captures[name] for name in change.remove]
        known += [other for capture in change.add for other in snapshot.of_content(capture)]
        live = {file.path: file.size for capture in known for file in capture.files}
        added = [file for capture in change.add for file in capture.files]
        files = {file.path: file.size for file in added if live.get(file.path) != file.size}
        for (path, size), found in zip(files.items(), self.store.sizes(list(files)), strict=True):
            if found != size:
                problem = "is missing" if found is None else f"has {found} octets, not {size}"
                raise DatasetError(f"{self.store.location(path)}: {problem}: it can't be committed")

    def _checkpoint(self, version: int | None) -> Snapshot:
        """Newest checkpoint up to ``version`` that can be read; without one, what was before entry 0."""
        for number in self._checkpoint_versions():
            if version is None or number <= version:
                path = checkpoint_path(number)
                try:
                    data = self.store.read(path)
                    if data is not None:
                        return decode_checkpoint(data, version=number, path=self.store.location(path))
                except DatasetError as error:
                    _logger.warning("%s (reading the entries instead)", error)
        return Snapshot.of(-1)

    def _checkpoint_versions(self) -> list[int]:
        """Versions that have a checkpoint, newest first."""
        names = [stored.path.removeprefix(f"{CHECKPOINTS}/") for stored in self.store.list(CHECKPOINTS)]
        versions = [int(name[:20]) for name in names if name[:20].isdecimal() and name[20:] == ".parquet"]
        return sorted(versions, reverse=True)

    def _write_checkpoint_if_due(self, snapshot: Snapshot) -> None:
        """Write a checkpoint if the newest one is of an earlier hundred.

        The commit has taken place by then, and a checkpoint only saves time: to fail here is no error.
        """
        due = snapshot.version // self.checkpoint_every
        try:
            if due > self._checkpointed // self.checkpoint_every:
                self._checkpointed = max(self._checkpoint_versions(), default=0)
            if due > self._checkpointed // self.checkpoint_every:
                self.store.write(checkpoint_path(snapshot.version), encode_checkpoint(snapshot))
                self._checkpointed = snapshot.version
        except DatasetError as error:
            _logger.warning("no checkpoint of version %d: %s", snapshot.version, error)


def remove(dataset: Dataset, names: Iterable[str] = (), *, before: int | None = None) -> tuple[str, ...]:
    """Take captures out of the dataset, in one commit; the result is their names.

    ``names`` are taken out in any case, and with ``before`` (nanoseconds since 1970) every capture whose
    packets are all earlier.  One without a time stays unless it is named.  Files go at the next vacuum.

    Raises:
        ConflictError: if a name is not in the dataset; nothing is removed then.
    """
    names = tuple(names)
    removed: tuple[str, ...] = ()

    def build(snapshot: Snapshot) -> Change:
        nonlocal removed
        change = plan_removal(snapshot, names, before=before)
        removed = change.remove
        return change

    dataset.commit(build)
    return removed


def entry_path(version: int) -> str:
    """Where the entry of a version is."""
    return f"{MANIFEST}/{version:020d}.json"


def checkpoint_path(version: int) -> str:
    """Where the checkpoint of a version is."""
    return f"{CHECKPOINTS}/{version:020d}.parquet"


def _refuse_other_contents(store: Store) -> None:
    """Refuse a place that holds files and no dataset: a vacuum could take them for its own."""
    stray = next((file.path for file in store.list("") if not file.path.startswith(f"{MANIFEST}/")), None)
    if stray is not None and store.read(entry_path(0)) is None:
        raise DatasetError(f"{store.url}: is no dataset, and not empty ({stray}): choose another place")
