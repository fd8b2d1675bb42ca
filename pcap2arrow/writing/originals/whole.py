"""Exports of whole captures, octet for octet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pcap2arrow.errors import ExportError, Pcap2ArrowError, UsageError
from pcap2arrow.savefile.source import open_source
from pcap2arrow.tasks import NamedTask
from pcap2arrow.writing.ahead import ahead
from pcap2arrow.writing.originals.original import rebuild
from pcap2arrow.writing.progress import Meter, Watch
from pcap2arrow.writing.sources.reader import FileReader, Reader, TableReader
from pcap2arrow.writing.sources.spool import Spool
from pcap2arrow.writing.target import STANDARD_OUTPUT, ExportReport, Target, open_target, write_octets

_COPY_STEP = 4 << 20


def export_originals(
    readers: list[Reader], target: Target, watch: Watch, spool: Spool | None = None
) -> ExportReport:
    """Write one capture to a file, or all of them to a folder under their names, by a task each with ``spool``.

    ``watch`` is told after each.
    """
    into_folder = isinstance(target, str | os.PathLike) and (
        os.fspath(target).endswith("/") or (os.fspath(target) != STANDARD_OUTPUT and Path(target).is_dir())
    )
    if into_folder:
        assert isinstance(target, str | os.PathLike)
        return _export_folder(readers, Path(target), watch, spool)
    if len(readers) != 1:
        raise UsageError(
            f"original: expected one capture (pick it by name) or a folder, found {len(readers)} captures"
        )
    with open_target(target) as (file, name):
        octets = sum(write_octets(file, stretch) for stretch in _original(readers[0]))
    Meter([readers[0].size], watch).add(readers[0].size or 0)
    return ExportReport(None, octets, (name,))


def _export_folder(readers: list[Reader], folder: Path, watch: Watch, spool: Spool | None) -> ExportReport:
    place = folder if spool is None else folder.absolute()
    tasks = [
        NamedTask(name, _Original(reader, name, place), reader.size)
        for reader in readers
        for name in _names(reader)
    ]
    meter = Meter([task.octets for task in tasks], watch)
    octets, files, errors = 0, list[str](), list[str]()
    results = (task() for task in tasks) if spool is None else spool.run(tasks)
    for task, done in zip(tasks, results, strict=True):
        meter.add(task.octets or 0)
        octets += done.octets
        files += [str(folder / file) for file in done.files]
        errors += done.errors
    return ExportReport(None, octets, tuple(files), tuple(errors))


@dataclass(frozen=True, slots=True)
class _Original:
    """Writes a capture as it was to a folder; the result names its file inside of it, or says what is wrong."""

    reader: Reader
    name: str
    folder: Path

    def __call__(self) -> ExportReport:
        try:
            inside = _inside(self.name)
            path = self.folder / inside
            path.parent.mkdir(parents=True, exist_ok=True)
            with open_target(path) as (file, _):
                octets = sum(write_octets(file, stretch) for stretch in _original(self.reader))
        except (Pcap2ArrowError, OSError) as error:
            return ExportReport(None, 0, (), (f"{self.name}: {error}",))
        return ExportReport(None, octets, (str(inside),))


def _names(reader: Reader) -> list[str]:
    """Every name of the capture's content."""
    if isinstance(reader, FileReader):
        return [reader.name]
    return [live.name for live in reader.dataset.snapshot().of_content(reader.capture)]


def _inside(name: str) -> PurePosixPath:
    """A capture's name as a path that stays inside the folder.  Raises ExportError where it would not."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise ExportError("its name leads out of the folder: pick it by its name and give a file")
    return path


def _original(reader: Reader) -> Iterator[Any]:
    if isinstance(reader, TableReader):
        yield from ahead(rebuild(reader.dataset, reader.capture))
        return
    with open_source(reader.path, name=reader.name, before=reader.before) as source:
        for offset in range(0, source.size, _COPY_STEP):
            yield source.read(offset, _COPY_STEP)
