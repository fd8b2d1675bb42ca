"""An entry of the log as JSON: ``{"format", "id", "version", "settings", "add", "remove"}``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pcap2arrow.dataset.snapshot import (
    TABLES,
    Change,
    DataFile,
    LiveCapture,
    Source,
    Stretch,
    Table,
)
from pcap2arrow.errors import DatasetError

FORMAT = 2
"""Version of the log's format; this release reads it and every older one, and refuses newer ones."""

_FORMAT_WITHOUT_STRETCHES = 1

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Entry:
    """One commit.

    ``id`` is random, so that a writer knows its own entry again.  Entry 0 has the dataset's ``settings`` and
    no change.
    """

    id: str
    version: int
    change: Change = field(default_factory=Change)
    settings: Mapping[str, str] = field(default_factory=dict, hash=False)


def encode_entry(entry: Entry) -> bytes:
    """The entry as one line of ASCII."""
    record = {
        "format": format_of(entry.change.add),
        "id": entry.id,
        "version": entry.version,
        "settings": dict(entry.settings),
        "remove": entry.change.remove,
        "add": [_encode_capture(capture) for capture in entry.change.add],
    }
    return json.dumps(record, separators=(",", ":")).encode("ascii") + b"\n"


def format_of(captures: Iterable[LiveCapture]) -> int:
    """The oldest format that has all that these captures need."""
    shared = any(file.stretch for capture in captures for file in capture.files)
    return FORMAT if shared else _FORMAT_WITHOUT_STRETCHES


def decode_entry(data: bytes, *, path: str) -> Entry:
    """The entry that :func:`encode_entry` wrote; ``path`` is for errors.

    Raises:
        DatasetError: if it is damaged, or of a newer format.
    """
    with damage_named(path):
        record = json.loads(data)
        version = _get(record, "format", int)
    check_format(version, path=path)
    with damage_named(path):
        return Entry(
            id=_get(record, "id", str),
            version=_get(record, "version", int),
            change=Change(
                add=tuple(map(_decode_capture, _get(record, "add", list))),
                remove=tuple(_is(name, str) for name in _get(record, "remove", list)),
            ),
            settings={key: _is(value, str) for key, value in _get(record, "settings", dict).items()},
        )


@contextmanager
def damage_named(path: str) -> Iterator[None]:
    """Turn the errors that a damaged file of the log causes into one that names its ``path``."""
    try:
        yield
    except (DatasetError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DatasetError(f"{path}: damaged: {error or type(error).__name__}") from error


def check_format(version: int, *, path: str) -> None:
    """Refuse a format of the log that is newer than this release knows.

    Raises:
        DatasetError: saying so.
    """
    if version > FORMAT:
        raise DatasetError(
            f"{path}: written by a newer release (log format {version}; this one reads up to {FORMAT}): "
            "upgrade pcap2arrow"
        )


def _encode_capture(capture: LiveCapture) -> dict[str, object]:
    source = capture.source
    return {
        "name": capture.name,
        "capture_id": capture.capture_id,
        "identity": capture.identity,
        "options": capture.options,
        "packets": capture.packets,
        "first_time": capture.first_time,
        "source": {
            "path": source.path,
            "size": source.size,
            "mtime_ns": source.mtime_ns,
            "inode": source.inode,
            "etag": source.etag,
        },
        "files": [_encode_file(file) for file in capture.files],
    }


def _encode_file(file: DataFile) -> dict[str, object]:
    stretch = file.stretch
    return {
        "path": file.path,
        "table": file.table,
        "rows": file.rows,
        "size": file.size,
        "ranges": dict(file.ranges),
    } | ({"stretch": [stretch.first, stretch.of, stretch.unit]} if stretch else {})


def _decode_capture(record: object) -> LiveCapture:
    source = _get(record, "source", dict)
    return LiveCapture(
        name=_get(record, "name", str),
        capture_id=_get(record, "capture_id", int),
        identity=_get(record, "identity", str),
        options=_get(record, "options", str),
        packets=_get(record, "packets", int),
        first_time=_get_or_null(record, "first_time", int),
        source=Source(
            path=_get(source, "path", str),
            size=_get_or_null(source, "size", int),
            mtime_ns=_get_or_null(source, "mtime_ns", int),
            inode=_get_or_null(source, "inode", int),
            etag=_get_or_null(source, "etag", str),
        ),
        files=tuple(map(_decode_file, _get(record, "files", list))),
    )


def _decode_file(record: Any) -> DataFile:
    ranges = _get(record, "ranges", dict)
    stretch = None
    if "stretch" in record:
        first, of, unit = (_is(number, int) for number in _get(record, "stretch", list))
        stretch = Stretch(first, of, unit)
    return DataFile(
        path=_get(record, "path", str),
        table=as_table(_get(record, "table", str)),
        rows=_get(record, "rows", int),
        size=_get(record, "size", int),
        ranges={
            column: (_is(least, int), _is(greatest, int)) for column, (least, greatest) in ranges.items()
        },
        stretch=stretch,
    )


def as_table(name: str) -> Table:
    """``name`` as a table's name.

    Raises:
        ValueError: if there is no such table.
    """
    if name not in TABLES:
        raise ValueError(f"no such table: {name!r}")
    return name


def _is(value: object, kind: type[_T]) -> _T:
    """``value``, which has to be of that very type (a boolean is no integer)."""
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, found {value!r:.80}")
    return value


def _get(record: Any, key: str, kind: type[_T]) -> _T:
    return _is(record[key], kind)


def _get_or_null(record: Any, key: str, kind: type[_T]) -> _T | None:
    return None if record[key] is None else _is(record[key], kind)
