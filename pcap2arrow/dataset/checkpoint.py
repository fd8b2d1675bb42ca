"""A snapshot as Parquet: what all entries up to a version add up to, so that a reader starts there.

One row per file of a capture, with the capture's own columns beside it; a capture without files has one row
whose ``path`` is null.  Names are octets, because a file name need not be Unicode.  ``least.<column>`` and
``greatest.<column>`` are a file's ranges, null where it has none; so are the numbers of a stretch of a shared file.
"""

from __future__ import annotations

import gc
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING

from pcap2arrow.dataset.entry import as_table, check_format, damage_named, format_of
from pcap2arrow.dataset.snapshot import DataFile, LiveCapture, Snapshot, Source, Stretch

if TYPE_CHECKING:
    import polars as pl

_CAPTURE = {
    "name": "Binary",
    "capture_id": "UInt64",
    "identity": "String",
    "options": "String",
    "packets": "Int64",
    "first_time": "Int64",
    "source_path": "Binary",
    "source_size": "Int64",
    "source_mtime_ns": "Int64",
    "source_inode": "UInt64",
    "source_etag": "String",
}
_NEVER_NULL = ("name", "capture_id", "identity", "options", "packets", "source_path")
_FILE = {"path": "String", "table": "String", "rows": "Int64", "size": "Int64"}
_STRETCH = ("first", "of", "unit")
_FORMAT_KEY = "pcap2arrow.log_format"


def encode_checkpoint(snapshot: Snapshot) -> bytes:
    """The snapshot's captures as a Parquet file; the version stands in the file's name alone."""
    import polars as pl

    pairs = [(_capture_row(c), file) for c in snapshot.captures.values() for file in c.files or (None,)]
    captures = zip(*(row for row, _ in pairs), strict=True) if pairs else ([] for _ in _CAPTURE)
    files = [file for _, file in pairs]
    columns = [
        pl.Series(name, values, dtype=getattr(pl, kind))
        for (name, kind), values in zip(_CAPTURE.items(), captures, strict=True)
    ]
    columns += [
        pl.Series(name, [file and getattr(file, name) for file in files], dtype=getattr(pl, kind))
        for name, kind in _FILE.items()
    ]
    stretches = [file and file.stretch for file in files]
    columns += [
        pl.Series(f"stretch.{name}", [of and getattr(of, name) for of in stretches], dtype=pl.Int64)
        for name in _STRETCH
    ]
    output = io.BytesIO()
    frame = pl.DataFrame([*columns, *_range_columns(files)])
    frame.write_parquet(
        output, compression="zstd", metadata={_FORMAT_KEY: str(format_of(snapshot.captures.values()))}
    )
    return output.getvalue()


def decode_checkpoint(data: bytes, *, version: int, path: str) -> Snapshot:
    """The snapshot that :func:`encode_checkpoint` wrote; ``path`` is for errors.

    Raises:
        DatasetError: if it is damaged, or of a newer format.
    """
    import polars as pl

    with _damage_named(path):
        log_format = int(pl.read_parquet_metadata(io.BytesIO(data))[_FORMAT_KEY])
    check_format(log_format, path=path)
    with _damage_named(path):
        frame = pl.read_parquet(io.BytesIO(data))
        frame = frame.cast({name: getattr(pl, kind) for name, kind in {**_CAPTURE, **_FILE}.items()})
        with _collector_paused():
            return Snapshot.of(version, _captures(frame))


@contextmanager
def _damage_named(path: str) -> Iterator[None]:
    import polars as pl

    with damage_named(path):
        try:
            yield
        except pl.exceptions.PolarsError as error:
            raise ValueError(str(error)) from error


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Build many values without the garbage collector, which would go over all of them again and again.

    Nothing here is garbage, and looking for it takes a third of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _capture_row(capture: LiveCapture) -> tuple[object, ...]:
    source = capture.source
    return (
        _octets(capture.name),
        capture.capture_id,
        capture.identity,
        capture.options,
        capture.packets,
        capture.first_time,
        _octets(source.path),
        source.size,
        source.mtime_ns,
        source.inode,
        source.etag,
    )


def _range_columns(files: list[DataFile | None]) -> list[pl.Series]:
    import polars as pl

    ranges: list[Mapping[str, tuple[int, int]]] = [file.ranges if file else {} for file in files]
    columns = []
    for name in dict.fromkeys(column for of_file in ranges for column in of_file):
        pairs = [of_file.get(name, (None, None)) for of_file in ranges]
        kind = _integer_kind([of_file[name] for of_file in ranges if name in of_file])
        columns.append(pl.Series(f"least.{name}", [least for least, _ in pairs], dtype=kind))
        columns.append(pl.Series(f"greatest.{name}", [greatest for _, greatest in pairs], dtype=kind))
    return columns


def _integer_kind(pairs: list[tuple[int, int]]) -> type[pl.DataType]:
    """The type that holds the ranges of one column."""
    import polars as pl

    if max(greatest for _, greatest in pairs) < 2**63:
        return pl.Int64
    return pl.UInt64 if min(least for least, _ in pairs) >= 0 else pl.Int128


def _captures(frame: pl.DataFrame) -> list[LiveCapture]:
    """Captures of the rows; names that share a file share its value."""
    if any(frame.get_column(name).null_count() for name in _NEVER_NULL):
        raise ValueError("a null where none is allowed")
    columns = [frame.get_column(name).to_list() for name in _CAPTURE]
    files = _files(frame)
    captures = []
    for _, group in groupby(range(frame.height), key=columns[0].__getitem__):
        rows = list(group)
        name, capture_id, identity, options, packets, first_time, path, *source = (
            column[rows[0]] for column in columns
        )
        captures.append(
            LiveCapture(
                name=_text(name),
                capture_id=capture_id,
                identity=identity,
                options=options,
                packets=packets,
                first_time=first_time,
                source=Source(_text(path), *source),
                files=tuple(file for number in rows if (file := files[number]) is not None),
            )
        )
    return captures


def _files(frame: pl.DataFrame) -> list[DataFile | None]:
    """The file of each row, if it has one."""
    return [
        None if path is None else DataFile(path, as_table(table), rows, size, ranges, stretch)
        for (path, table, rows, size), ranges, stretch in zip(
            frame.select(*_FILE).iter_rows(), _ranges(frame), _stretches(frame), strict=True
        )
    ]


def _stretches(frame: pl.DataFrame) -> list[Stretch | None]:
    names = [f"stretch.{name}" for name in _STRETCH]
    if names[0] not in frame.columns:  # of a release that had none
        return [None] * frame.height
    rows = frame.select(names).iter_rows()
    return [None if first is None else Stretch(first, of, unit) for first, of, unit in rows]


def _ranges(frame: pl.DataFrame) -> list[dict[str, tuple[int, int]]]:
    ranges: list[dict[str, tuple[int, int]]] = [{} for _ in range(frame.height)]
    for column in frame.columns:
        if not column.startswith("least."):
            continue
        name = column.removeprefix("least.")
        least, greatest = frame.get_column(column), frame.get_column(f"greatest.{name}")
        if not (least.dtype.is_integer() and greatest.dtype.is_integer()):
            raise TypeError(f"ranges of {name!r} are no integers")
        for of_file, low, high in zip(ranges, least.to_list(), greatest.to_list(), strict=True):
            if low is not None:
                of_file[name] = low, high
    return ranges


def _octets(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogatepass")
