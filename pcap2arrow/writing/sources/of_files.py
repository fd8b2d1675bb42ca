"""Which packets of a dataset's files are of a range of time: by what the log knows of them, else by their times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pcap2arrow.arrays import values
from pcap2arrow.reading.files import read_file
from pcap2arrow.times import TimeRange

if TYPE_CHECKING:
    from pcap2arrow.dataset.log import Dataset
    from pcap2arrow.dataset.snapshot import DataFile


def file_meets(file: DataFile, times: TimeRange) -> bool:
    """Whether a file of packets can hold some of that time."""
    return times.meets(*file.ranges["time"]) if "time" in file.ranges else not is_timed(file, timed=False)


def file_within(file: DataFile, times: TimeRange) -> bool:
    """Whether all packets of a file are known to be of that time."""
    if not times:
        return True
    return "time" in file.ranges and is_timed(file, timed=True) and times.holds(*file.ranges["time"])


def is_timed(file: DataFile, *, timed: bool) -> bool:
    """Whether the file's folder tells that all of its packets have a time, or that none has."""
    return "=" in file.path and ("=none/" in file.path) is not timed


def packets_in(dataset: Dataset, file: DataFile, times: TimeRange) -> NDArray[np.bool_]:
    """Which packets of a file are of that time.  Raises DatasetError where it is damaged."""
    if file_within(file, times):
        return np.ones(file.rows, np.bool_)
    if not file_meets(file, times):
        return np.zeros(file.rows, np.bool_)
    return dataset.recent.get(
        (file.path, file.stretch, times),
        lambda: times.which(*values(read_file(dataset, file, columns=["time"])["time"])),
    )
