"""``pcap2arrow.export``, ``verify`` and ``write_capture``: packet tables back to captures."""

from __future__ import annotations

import os
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar

from pcap2arrow.dataset.log import Dataset, open_dataset
from pcap2arrow.dataset.snapshot import LiveCapture
from pcap2arrow.errors import ConflictError, ExportError, Pcap2ArrowError, SourceError, UsageError
from pcap2arrow.inputs import find_captures
from pcap2arrow.reading.api import is_dataset
from pcap2arrow.savefile.source import STANDARD_INPUT, open_source
from pcap2arrow.writing.formats import Format, check_format, encode, plan_layout
from pcap2arrow.writing.merge import Run, held_back, merge
from pcap2arrow.writing.original import capture_row, first_difference, rebuild
from pcap2arrow.writing.stream import FileStream, Packets, Stream, TableStream, open_stream, packets

if TYPE_CHECKING:
    import pyarrow as pa

STANDARD_OUTPUT = "-"
_Item = TypeVar("_Item")
_COPY_STEP = 4 << 20
Target = str | os.PathLike[str] | IO[bytes]
Sources = Iterable[str | os.PathLike[str]] | str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written: ``packets`` (None where captures were copied whole), ``octets``, the ``files``.

    ``errors`` name captures that could not be written; everything else is done.
    """

    packets: int | None
    octets: int
    files: tuple[str, ...]
    errors: tuple[str, ...] = ()


def export(
    sources: Sources,
    target: Target,
    *,
    capture: str | None = None,
    format: Format = "auto",
    snaplen: int | None = None,
) -> ExportReport:
    """Write the packets of datasets and captures to one capture, or with ``original`` captures as they were.

    ``target`` is a path, ``-`` for standard output, or a binary file.  ``capture`` picks one by its name.  ``format``:
    ``pcap`` (microseconds), ``nspcap`` (nanoseconds), ``pcapng``; ``auto`` takes pcap, with nanoseconds only if a time
    stamp needs them, or pcapng where link types or interfaces differ or a time does not fit.  ``snaplen`` cuts
    packets.  Several captures are merged by time.  ``original`` writes one capture octet for octet, or, where
    ``target`` is a folder or ends in ``/``, every capture under its name.

    A file appears when it is whole.  Raises ExportError, SourceError, DatasetError, UsageError.

    >>> pcap2arrow.export("dataset", "all.pcap").packets                                          # doctest: +SKIP
    12345
    """
    check_format(format)
    if snaplen is not None and (snaplen < 1 or format == "original"):
        raise UsageError("snaplen: expected a number from 1, and a format other than original")
    with _captures(sources, capture) as streams:
        if format == "original":
            return _export_originals(streams, target)
        return _export_merged(streams, target, format, snaplen)


@contextmanager
def _captures(sources: Sources, name: str | None) -> Iterator[list[Stream]]:
    """Streams of all captures of the sources, or of the one of that name; the same content of a dataset once."""
    with tempfile.TemporaryDirectory(prefix="pcap2arrow-") as folder:
        streams: list[Stream] = []
        for source in [sources] if isinstance(sources, str | os.PathLike) else sources:
            if is_dataset(source):
                streams += _of_dataset(open_dataset(source), name)
            else:
                streams += [
                    FileStream(_spooled(found.path, folder), found.name)
                    for found in find_captures([source]).captures
                    if name in (None, found.name)
                ]
        if name is not None and not streams:
            raise UsageError(f"capture: there is none of the name {name!r}")
        yield streams


def _of_dataset(dataset: Dataset, name: str | None) -> list[Stream]:
    live = [capture for capture in dataset.snapshot().ordered() if name in (None, capture.name)]
    return [
        open_stream(dataset, capture)
        for capture in {capture.capture_id: capture for capture in live}.values()
    ]


def _spooled(path: str, folder: str) -> str:
    """A path that can be read twice."""
    if path != STANDARD_INPUT:
        return path
    with open_source(path) as source, tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        for offset in range(0, source.size, _COPY_STEP):
            file.write(source.read(offset, _COPY_STEP))
    return file.name


def _export_merged(
    streams: list[Stream], target: Target, format: Format, snaplen: int | None
) -> ExportReport:
    if not streams:
        raise ExportError("there is no capture to export")
    traits = [stream.traits() for stream in streams]
    layout = plan_layout(traits, format, snap_length=snaplen)
    runs = []
    for stream, of, numbers in zip(streams, traits, layout.numbers, strict=True):
        is_pcapng = layout.format == "pcapng" and bool(of.blocks)
        runs.append(
            Run(stream.bound, _batches(stream, numbers, is_pcapng=is_pcapng, alone=len(streams) == 1))
        )
    count = 0
    with _open_target(target) as (file, name):
        octets = _write(file, layout.preamble)
        encoded = ((len(batch), encode(batch, layout, name=name)) for batch in merge(runs))
        for rows, records in _ahead(encoded):
            count += rows
            octets += _write(file, records)
    return ExportReport(count, octets, (name,))


def _batches(stream: Stream, numbers: Any, *, is_pcapng: bool, alone: bool) -> Iterator[Packets]:
    """The stream's packets; read ahead if it is ``alone``, and else so that few files are open at once."""
    tables = _ahead(stream.tables()) if alone else held_back(stream.tables())
    return (packets(table, numbers, is_pcapng=is_pcapng) for table in tables)


def _export_originals(streams: list[Stream], target: Target) -> ExportReport:
    into_folder = isinstance(target, str | os.PathLike) and (
        os.fspath(target).endswith("/") or (os.fspath(target) != STANDARD_OUTPUT and Path(target).is_dir())
    )
    if into_folder:
        assert isinstance(target, str | os.PathLike)
        return _export_folder(streams, Path(target))
    if len(streams) != 1:
        raise UsageError(
            f"original: expected one capture (pick it by name) or a folder, found {len(streams)} captures"
        )
    with _open_target(target) as (file, name):
        octets = sum(_write(file, stretch) for stretch in _original(streams[0]))
    return ExportReport(None, octets, (name,))


def _export_folder(streams: list[Stream], folder: Path) -> ExportReport:
    octets, files, errors = 0, list[str](), list[str]()
    for stream in streams:
        for name in _names(stream):
            try:
                path = folder / _inside(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                with _open_target(path) as (file, _):
                    octets += sum(_write(file, stretch) for stretch in _original(stream))
                files.append(str(path))
            except (Pcap2ArrowError, OSError) as error:
                errors.append(f"{name}: {error}")
    return ExportReport(None, octets, tuple(files), tuple(errors))


def _names(stream: Stream) -> list[str]:
    """Every name of the stream's content."""
    if isinstance(stream, FileStream):
        return [stream.name]
    return [live.name for live in stream.dataset.snapshot().of_content(stream.capture)]


def _inside(name: str) -> PurePosixPath:
    """A capture's name as a path that stays inside the folder.  Raises ExportError where it would not."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise ExportError("its name leads out of the folder: pick it by its name and give a file")
    return path


def _ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """The items, the next of which is made by another thread while one is used."""
    with ThreadPoolExecutor(1) as executor:
        coming = executor.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = executor.submit(next, items, None)
            yield item


def _original(stream: Stream) -> Iterator[Any]:
    if isinstance(stream, TableStream):
        yield from _ahead(rebuild(stream.dataset, stream.capture))
        return
    with open_source(stream.path, name=stream.name) as source:
        for offset in range(0, source.size, _COPY_STEP):
            yield source.read(offset, _COPY_STEP)


@contextmanager
def _open_target(target: Target) -> Iterator[tuple[IO[bytes], str]]:
    """The file to write, with its name; one at a path appears under it only when it is whole."""
    if not isinstance(target, str | os.PathLike):
        yield target, str(getattr(target, "name", "output"))
    elif os.fspath(target) == STANDARD_OUTPUT:
        yield sys.stdout.buffer, "standard output"
        sys.stdout.buffer.flush()
    elif Path(target).exists() and not Path(target).is_file():
        with Path(target).open("wb") as device:
            yield device, os.fspath(target)
    else:
        path = Path(target)
        hidden = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with hidden.open("wb") as file:
                yield file, str(path)
            hidden.replace(path)
        except OSError as error:
            raise ExportError(f"{path}: {error.strerror or error}") from error
        finally:
            hidden.unlink(missing_ok=True)


def _write(file: IO[bytes], octets: Any) -> int:
    file.write(octets)
    return len(octets)


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """Whether a capture can be written back as it was.

    ``against`` is ``"source"`` (compared octet for octet) or ``"checksum"`` (the source is gone); ``error`` says what
    differs, None where nothing does.
    """

    name: str
    ok: bool
    against: Literal["source", "checksum"]
    error: str | None = None


def verify(dataset: str | os.PathLike[str]) -> Iterator[VerifyReport]:
    """Write back every capture of a dataset, and compare it with its source or, where that is gone, its checksums.

    Raises DatasetError where there is no dataset; whatever else is wrong is reported.
    """
    opened = open_dataset(dataset)
    for live in opened.snapshot().ordered():
        against: Literal["source", "checksum"] = "checksum"
        try:
            row = capture_row(opened, live)
            if row["frames"] != "referenced" and _source_is_there(live, row):
                against = "source"
                _compare(opened, live)
            else:
                _check(opened, live, row)
        except (Pcap2ArrowError, OSError) as error:
            yield VerifyReport(live.name, False, against, str(error))
        else:
            yield VerifyReport(live.name, True, against)


def _source_is_there(live: LiveCapture, row: dict[str, Any]) -> bool:
    """Whether the source can be read, and still has the size that it had."""
    if live.source.path == STANDARD_INPUT:
        return False
    try:
        with open_source(live.source.path, name=live.name) as source:
            return bool(source.size == row["size"])
    except SourceError:
        return False


def _compare(dataset: Dataset, live: LiveCapture) -> None:
    with open_source(live.source.path, name=live.name) as source:
        at = first_difference(source, rebuild(dataset, live))
    if at is not None:
        raise ConflictError(f"{live.name}: differs from {live.source.path} at offset {at}")


def _check(dataset: Dataset, live: LiveCapture, row: dict[str, Any]) -> None:
    block, checksums = row["checksum_block"], row["checksums"]
    at = crc = 0
    found: list[int] = []
    for stretch in rebuild(dataset, live):
        view = memoryview(stretch)
        while len(view):
            part = view[: block - at % block]
            crc = zlib.crc32(part, crc)
            at += len(part)
            view = view[len(part) :]
            if at % block == 0:
                found.append(crc)
                crc = 0
    if at % block or not at:
        found.append(crc)
    if at != row["size"]:
        raise ConflictError(f"{live.name}: has {at} octets, not {row['size']}")
    wrong = next((k for k, pair in enumerate(zip(found, checksums, strict=True)) if pair[0] != pair[1]), None)
    if wrong is not None:
        raise ConflictError(
            f"{live.name}: differs from its checksum in octets {wrong * block} to {(wrong + 1) * block}"
        )


def write_capture(table: pa.Table, target: Target, *, format: Format = "auto") -> ExportReport:
    """Write the rows of a packet table, in their order, to one capture.

    The table needs the columns ``time``, ``caplen``, ``frame_len``, ``link_type``, ``header`` and ``rest``.  Formats
    as in :func:`export`, without ``original``; what the table does not know (names, comments) is not written.
    Raises ExportError where a column is missing, or the format can't hold the packets.

    >>> table = pcap2arrow.read_capture("a.pcap")                                                 # doctest: +SKIP
    >>> pcap2arrow.write_capture(table.filter(pc.field("src_port") == 443), "b.pcap").packets     # doctest: +SKIP
    """
    from pcap2arrow.writing.tables import split_by_link_type

    check_format(format)
    if format == "original":
        raise UsageError("format: a table of packets is no original: expected pcap, nspcap, pcapng or auto")
    rows, traits = split_by_link_type(table)
    layout = plan_layout([traits], format, snap_length=None)
    batch = rows(layout.numbers[0])
    with _open_target(target) as (file, name):
        octets = _write(file, layout.preamble) + _write(file, encode(batch, layout, name=name))
    return ExportReport(len(batch), octets, (name,))
