"""Small captures for tests of the dataset's log, and a process that commits them."""

from __future__ import annotations

import hashlib
import itertools
import sys
from pathlib import Path

import pyarrow.parquet as pq

from pcap2arrow.dataset import (
    DataFile,
    Dataset,
    LiveCapture,
    Snapshot,
    Source,
    Table,
    open_dataset,
    plan_change,
)

OPTIONS = "schema=1 frames=stored partition-by=date on-error=salvage"
DAY = 86_400 * 10**9


def capture(name: str, content: int = 0, *, options: str = OPTIONS, packets: int = 6) -> LiveCapture:
    """A capture of one of the contents 0, 1, 2, …, each of which starts a day later and spans two days."""
    identity = hashlib.sha256(str(content).encode()).hexdigest()
    key = hashlib.sha256(f"{identity} {options}".encode()).hexdigest()[:32]
    row = hashlib.sha256(f"{key} {name}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
    first = content * DAY
    ranges = [{"time": (first, first + 5), "link_type": (1, 1)}, {"time": (first + DAY, first + DAY + 7)}]
    return LiveCapture(
        name=name,
        capture_id=int(identity[:16], 16),
        identity=identity,
        options=options,
        packets=packets,
        first_time=first,
        source=Source(f"/archive/{name}", size=1000 + content, mtime_ns=first, inode=content + 7),
        files=(
            _file("packets", f"date=a/{key}", rows=packets // 2, ranges=ranges[0]),
            _file("packets", f"date=b/{key}", rows=packets - packets // 2, ranges=ranges[1]),
            _file("blocks", key, rows=2),
            _file("captures", row, rows=1),
        ),
    )


def _file(
    table: Table, name: str, *, rows: int, ranges: dict[str, tuple[int, int]] | None = None
) -> DataFile:
    path = f"{table}/{name}.parquet"
    return DataFile(path, table, rows, len(contents(path)), ranges or {})


def contents(path: str) -> bytes:
    """The octets of a data file (no Parquet: the log does not look inside)."""
    return f"{path}\n".encode() * (3 + len(path) % 5)


def put(dataset: Dataset, *captures: LiveCapture, sync: bool = False) -> None:
    """Write the captures' files."""
    for path in sorted({file.path for capture in captures for file in capture.files}):
        with dataset.open_output(path, sync=sync) as file:
            file.write(contents(path))


def convert(dataset: Dataset, *captures: LiveCapture, replace: bool = False) -> Snapshot:
    """Write the captures' files and commit them."""
    put(dataset, *captures)
    return dataset.commit(lambda snapshot: plan_change(snapshot, captures, replace=replace))


def damaged(dataset: Dataset, snapshot: Snapshot) -> list[str]:
    """Live files that are missing or do not hold what was written."""
    return [path for path in sorted(snapshot.paths()) if dataset.store.read(path) != contents(path)]


def data_files(root: Path) -> set[str]:
    """All files of the tables that lie in a local dataset, live or not."""
    folders = (root / "packets", root / "captures", root / "blocks")
    return {
        path.relative_to(root).as_posix()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }


def main(url: str, writer: str, count: str) -> None:
    """Convert the captures ``<writer>/0``, ``<writer>/1``, …; print ``ready``, then each commit's version."""
    dataset = open_dataset(url)
    print("ready", flush=True)
    for number in itertools.islice(itertools.count(), int(count)):
        mine = capture(f"{writer}/{number}", 10_000 * int(writer) + number)
        print(convert(dataset, mine).version, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])


def damage_payloads(path: Path) -> None:
    """Put zeros in place of the column ``rest`` of a file of packets."""
    metadata = pq.read_metadata(path).row_group(0)
    [rest] = [
        column for k in range(metadata.num_columns) if (column := metadata.column(k)).path_in_schema == "rest"
    ]
    octets = bytearray(path.read_bytes())
    start, size = rest.dictionary_page_offset or rest.data_page_offset, rest.total_compressed_size
    octets[start : start + size] = bytes(size)
    path.write_bytes(octets)
