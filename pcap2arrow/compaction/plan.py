"""Which files are joined, and what that changes in a snapshot."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pcap2arrow.conversion.plan import digest
from pcap2arrow.dataset.snapshot import Change, DataFile, LiveCapture, Snapshot, Table

TARGET = 128 << 20
"""Octets of the files that are made, about."""

_MOST_PARTS = 1024
"""Stretches of a file: what a reader of one of them has to find its way through."""

Place = tuple[str, int]
"""Where a stretch is: a file, and a row in it."""


@dataclass(frozen=True, slots=True)
class Join:
    """Files, or stretches of them, that become one file at ``path``, in that order."""

    path: str
    table: Table
    parts: tuple[DataFile, ...]

    @property
    def files(self) -> set[str]:
        """The files that the parts are read from."""
        return {part.path for part in self.parts}

    @property
    def octets(self) -> int:
        """Octets that the parts take now."""
        return sum({part.path: part.size for part in self.parts}.values())


@dataclass(slots=True)
class _Small:
    """A file that is to be joined with others, with the places of its parts among all."""

    size: int
    parts: dict[Place, tuple[int, DataFile]] = dataclasses.field(default_factory=dict)


def plan_joins(snapshot: Snapshot, *, target: int = TARGET) -> list[Join]:
    """Files below half of ``target`` octets, put together to files of about that size.

    Only files of one table, folder and way of conversion go together.  A file that nothing goes with stays.
    """
    return [
        join
        for (folder, table, _), small in _groups(snapshot, target).items()
        for files in _packed(small.values(), target)
        if len(files) > 1
        for join in [make_join(folder, table, files)]
    ]


def _groups(snapshot: Snapshot, target: int) -> dict[tuple[str, Table, str], dict[str, _Small]]:
    groups: dict[tuple[str, Table, str], dict[str, _Small]] = {}
    for number, (capture, file) in enumerate(_of_captures(snapshot.ordered())):
        if file.size < target // 2:
            key = file.path.rpartition("/")[0], file.table, capture.options
            small = groups.setdefault(key, {}).setdefault(file.path, _Small(file.size))
            small.parts.setdefault(file.place, (number, file))
    return groups


def _of_captures(captures: Iterable[LiveCapture]) -> Iterator[tuple[LiveCapture, DataFile]]:
    return ((capture, file) for capture in captures for file in capture.files)


def _packed(files: Iterable[_Small], target: int) -> Iterator[list[_Small]]:
    """Files in their order, as many at a time as have room in one."""
    packed: list[_Small] = []
    octets = parts = 0
    for file in files:
        if packed and (octets + file.size > target or parts + len(file.parts) > _MOST_PARTS):
            yield packed
            packed, octets, parts = [], 0, 0
        packed.append(file)
        octets, parts = octets + file.size, parts + len(file.parts)
    yield packed


def make_join(folder: str, table: Table, files: Sequence[_Small]) -> Join:
    """Files put together, their parts in the order of the captures."""
    numbered = sorted((pair for file in files for pair in file.parts.values()), key=lambda pair: pair[0])
    return join_of(folder, table, [part for _, part in numbered])


def join_of(folder: str, table: Table, parts: Sequence[DataFile]) -> Join:
    """Parts in that order, as a file whose name tells what it is made of."""
    key = digest(*(f"{part.path}:{part.place[1]}:{part.rows}" for part in parts))
    return Join(f"{folder}/joined-{key}.parquet", table, tuple(parts))


def plan_moves(snapshot: Snapshot, moved: Mapping[Place, DataFile]) -> Change:
    """The change that has captures name other files in place of those at the places ``moved``."""
    changed = tuple(
        _moved(capture, moved)
        for capture in snapshot.captures.values()
        if any(file.place in moved for file in capture.files)
    )
    return Change(add=changed, remove=tuple(capture.name for capture in changed))


def _moved(capture: LiveCapture, moved: Mapping[Place, DataFile]) -> LiveCapture:
    files = tuple(moved.get(file.place, file) for file in capture.files)
    return dataclasses.replace(capture, files=files)


def plan_leavings(snapshot: Snapshot, change: Change) -> list[Join]:
    """What a change leaves of files that it takes some of the captures out of, to be written to files of its own."""
    leaving = [snapshot.captures[name] for name in change.remove if name in snapshot.captures]
    paths = {file.path for capture in leaving for file in capture.files if file.stretch}
    if not paths:
        return []
    left: dict[str, dict[Place, DataFile]] = {}
    for _, file in _of_captures(snapshot.after(change).ordered()):
        if file.path in paths:
            left.setdefault(file.path, {})[file.place] = file
    joins = []
    for path, parts in left.items():
        files = list(parts.values())
        stretch = files[0].stretch
        if stretch and sum(file.rows for file in files) < stretch.of:
            joins.append(join_of(path.rpartition("/")[0], files[0].table, files))
    return joins


def with_moves(snapshot: Snapshot, change: Change, moved: Mapping[Place, DataFile]) -> Change:
    """``change``, and then that of :func:`plan_moves`, as one."""
    moves = plan_moves(snapshot.after(change), moved)
    again = {capture.name: capture for capture in moves.add}
    added = {capture.name: capture for capture in change.add} | again
    others = tuple(name for name in again if name in snapshot.captures and name not in change.remove)
    return Change(add=tuple(added.values()), remove=(*change.remove, *others))
