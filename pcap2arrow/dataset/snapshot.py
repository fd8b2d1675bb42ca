"""What a dataset holds at one version: captures, the files that hold them, and how a change leads to the next
version.

Plain values; nothing here touches a disk.  Whatever is read from a dataset becomes one of these values first,
so their checks are what a hostile log has to pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from pcap2arrow.errors import ConflictError, DatasetError

Table = Literal["packets", "captures", "blocks"]
"""A table of the dataset, and the folder that holds its files."""

TABLES: tuple[Table, ...] = get_args(Table)

ROW_GROUP_ROWS = 3 << 17
"""A file with no more packets has one row group; that bounds the memory of a unit of small packets."""

_PATH = re.compile(r"(packets|captures|blocks)(?:/[\w=+,][\w.=+,-]*+)++(?<=\.parquet)", re.ASCII)
_LONGEST_PATH = 1024


def check_path(path: str) -> None:
    """Refuse a file path that is not ``<table>/….parquet`` made of ordinary characters.

    Absolute paths, ``..``, hidden names and characters that a URL would escape are out, so that a path from a
    log never leaves the dataset.

    Raises:
        DatasetError: naming the path.
    """
    if len(path) > _LONGEST_PATH or _PATH.fullmatch(path) is None:
        raise DatasetError(f"{path!r} is no path of a data file")


def _is_unicode(text: str) -> bool:
    """Whether a string is Unicode; only names of captures and their paths may be anything else."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows in a row of a file that is shared: the ``first`` of them (from 0), and how many the file is ``of``.

    ``unit`` is the number of the capture's unit that they are.
    """

    first: int
    of: int
    unit: int


@dataclass(frozen=True, slots=True)
class DataFile:
    """A Parquet file of the dataset, or a stretch of one that several captures or units share.

    ``path`` is relative to the dataset and starts with the table's name; ``size`` is the file's, in octets.
    ``rows`` are the file's or, with a ``stretch``, those of it.  ``ranges`` gives the least and greatest value
    of these rows per column, as integers (times in nanoseconds since 1970, booleans as 0 and 1): no row lies
    outside, nulls apart.  A column that is absent tells nothing.
    """

    path: str
    table: Table
    rows: int
    size: int
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict, hash=False)
    stretch: Stretch | None = None

    def __post_init__(self) -> None:
        check_path(self.path)
        if not self.path.startswith(self.table):
            raise DatasetError(f"{self.path!r} lies outside the folder of the table {self.table!r}")
        if not (0 <= self.rows < 2**63 and 0 <= self.size < 2**63):
            raise DatasetError(f"{self.path}: {self.rows} rows in {self.size} octets can't be")
        stretch = self.stretch
        if stretch and not (
            0 <= stretch.first <= stretch.of - self.rows < 2**63 and 0 <= stretch.unit < 2**63
        ):
            raise DatasetError(f"{self.path}: {self.rows} rows of {stretch} can't be")
        for column, (least, greatest) in self.ranges.items():
            if not (column.isidentifier() and -(2**63) <= least <= greatest < 2**64):
                raise DatasetError(f"{self.path}: {least} to {greatest} is no range of {column!r}")

    @property
    def place(self) -> tuple[str, int]:
        """The file and the first of the rows there."""
        return self.path, self.stretch.first if self.stretch else 0

    @property
    def unit(self) -> int:
        """The number of the capture's unit that this is of: as the stretch says, else the file's name."""
        return self.stretch.unit if self.stretch else int(self.path.rsplit("/", 1)[-1].split("-")[1])

    @property
    def octets(self) -> int:
        """Octets of the rows in the file, about."""
        return self.size * self.rows // max(self.stretch.of, 1) if self.stretch else self.size


@dataclass(frozen=True, slots=True)
class Source:
    """Where a capture was read from, as it stood then: what tells an unchanged one without reading it.

    ``size`` in octets, ``mtime_ns`` in nanoseconds since 1970.  Null is what the place does not know: a URL
    has an ``etag`` and no ``inode``, a local file the reverse, standard input nothing but its ``path`` ``-``.
    """

    path: str
    size: int | None = None
    mtime_ns: int | None = None
    inode: int | None = None
    etag: str | None = None

    def __post_init__(self) -> None:
        if not (
            (self.size is None or 0 <= self.size < 2**63)
            and (self.mtime_ns is None or -(2**63) <= self.mtime_ns < 2**63)
            and (self.inode is None or 0 <= self.inode < 2**64)
            and (self.etag is None or _is_unicode(self.etag))
        ):
            raise DatasetError(f"{self!r}: can't be")


@dataclass(frozen=True, slots=True)
class LiveCapture:
    """A capture under one name, with the files that hold it.

    ``identity`` tells its content (hexadecimal), ``capture_id`` is the table's short form of it, ``options``
    how it was converted (any text, compared as a whole).  ``packets`` is the sum of the rows of its packets
    files.  ``first_time`` is its first record's time in nanoseconds since 1970, null without one.  Captures
    of the same identity under other names share files of packets and blocks.
    """

    name: str
    capture_id: int
    identity: str
    options: str
    packets: int
    first_time: int | None
    source: Source
    files: tuple[DataFile, ...]

    def __post_init__(self) -> None:
        if not (
            0 <= self.capture_id < 2**64
            and 0 <= self.packets < 2**63
            and (self.first_time is None or -(2**63) <= self.first_time < 2**63)
            and _is_unicode(self.identity + self.options)
        ):
            raise DatasetError(
                f"capture {self.name!r} can't have a number out of range, or options that are no text"
            )

    @property
    def order(self) -> tuple[bool, int, str]:
        """Sort key of captures in a dataset: (first time, name); one without a time comes first."""
        return self.first_time is not None, self.first_time or 0, self.name

    @property
    def last_time(self) -> int | None:
        """Greatest time of a packet, in nanoseconds since 1970; null where no packet has a time."""
        times = [
            file.ranges["time"][1] for file in self.files if file.table == "packets" and "time" in file.ranges
        ]
        return max(times, default=None)


@dataclass(frozen=True, slots=True)
class Change:
    """What a commit does: first names go, then captures come; a name in both is replaced."""

    add: tuple[LiveCapture, ...] = ()
    remove: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.add or self.remove)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A dataset at one version; never changes.

    ``captures`` are the live ones by name.  ``names`` are the names of each capture id, in the order in which
    they came.
    """

    version: int
    captures: Mapping[str, LiveCapture]
    names: Mapping[int, tuple[str, ...]] = field(repr=False, compare=False)

    @classmethod
    def of(cls, version: int, captures: Iterable[LiveCapture] = ()) -> Snapshot:
        """Snapshot of these captures.

        Raises:
            ConflictError: if they contradict each other (see :meth:`after`).
        """
        return cls(version - 1, {}, {}).after(Change(add=tuple(captures)))

    def ordered(self) -> tuple[LiveCapture, ...]:
        """Captures in the dataset's order: by first time, then name."""
        return tuple(sorted(self.captures.values(), key=lambda capture: capture.order))

    def of_content(self, capture: LiveCapture) -> tuple[LiveCapture, ...]:
        """Live captures with the capture id of ``capture``: the same content under every name that it has."""
        return tuple(self.captures[name] for name in self.names.get(capture.capture_id, ()))

    def files(self, table: Table) -> tuple[DataFile, ...]:
        """Live files of a table, or stretches, in the captures' order, each once, however many names share it."""
        files = {
            file.place: file for capture in self.ordered() for file in capture.files if file.table == table
        }
        return tuple(files.values())

    def paths(self) -> set[str]:
        """Paths of all live files."""
        return {file.path for capture in self.captures.values() for file in capture.files}

    def after(self, *changes: Change) -> Snapshot:
        """The snapshot to which ``changes`` lead, one version each.

        Raises:
            ConflictError: if a change removes what is not live, adds a name that is, gives a capture id to
                two contents or to two conversions of one, or a capture other packets than its files hold.
        """
        captures, names = dict(self.captures), dict(self.names)
        for change in changes:
            for name in change.remove:
                _remove(captures, names, name)
            for capture in change.add:
                _add(captures, names, capture)
        return Snapshot(self.version + len(changes), captures, names)


def _remove(captures: dict[str, LiveCapture], names: dict[int, tuple[str, ...]], name: str) -> None:
    capture = captures.pop(name, None)
    if capture is None:
        raise ConflictError(f"capture {name!r} is not in the dataset")
    rest = tuple(other for other in names[capture.capture_id] if other != name)
    if rest:
        names[capture.capture_id] = rest
    else:
        del names[capture.capture_id]


def _add(captures: dict[str, LiveCapture], names: dict[int, tuple[str, ...]], capture: LiveCapture) -> None:
    if capture.name in captures:
        raise ConflictError(f"capture {capture.name!r} is already in the dataset")
    held = sum(file.rows for file in capture.files if file.table == "packets")
    if held != capture.packets:
        raise ConflictError(
            f"capture {capture.name!r} has {capture.packets} packets, but its files hold {held}"
        )
    same = names.get(capture.capture_id, ())
    if same:
        _check_same_content(captures[same[0]], capture)
    captures[capture.name] = capture
    names[capture.capture_id] = (*same, capture.name)


def _check_same_content(live: LiveCapture, capture: LiveCapture) -> None:
    if live.identity != capture.identity:
        raise ConflictError(
            f"captures {live.name!r} and {capture.name!r} differ, but have the same capture id "
            f"{capture.capture_id}: they can't be in one dataset"
        )
    if live.options != capture.options:
        raise ConflictError(
            f"capture {capture.name!r} has the content of {live.name!r}, which was converted with other "
            f"options ({live.options}, now {capture.options}): a capture is converted one way at a time"
        )
    if shared_files(live) != shared_files(capture):
        raise ConflictError(
            f"captures {live.name!r} and {capture.name!r} have the same content, but not the same files"
        )


def shared_files(capture: LiveCapture) -> tuple[DataFile, ...]:
    """Files that every name of a content shares: those of packets and blocks."""
    return tuple(file for file in capture.files if file.table != "captures")


def whole_files(files: Iterable[DataFile]) -> tuple[DataFile, ...]:
    """``files``, but one in place of all stretches of a file where they are all there."""
    by_path: dict[str, dict[int, DataFile]] = {}
    for file in files:
        by_path.setdefault(file.path, {})[file.place[1]] = file
    return tuple(file for parts in by_path.values() for file in _joined(list(parts.values())))


def _joined(parts: list[DataFile]) -> list[DataFile]:
    one = parts[0]
    rows = sum(part.rows for part in parts)
    if one.stretch is None or rows < one.stretch.of:
        return parts
    known = set.intersection(*(set(part.ranges) for part in parts))
    ranges = {
        column: (min(part.ranges[column][0] for part in parts), max(part.ranges[column][1] for part in parts))
        for column in known
    }
    return [DataFile(one.path, one.table, rows, one.size, ranges)]
