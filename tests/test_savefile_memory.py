"""Memory that windows of captures are read into."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pcap2arrow.savefile.memory import LentWindows


def test_memory_is_lent_again_once_nothing_uses_it() -> None:
    memory = LentWindows()
    first = memory.take(100)
    place, column = first.ctypes.data, pa.py_buffer(first[10:90].view("<u4"))
    del first
    assert memory.take(100).ctypes.data != place, "a part of it is used"
    del column
    smaller = memory.take(60)
    assert (smaller.ctypes.data, len(smaller)) == (place, 60)


def test_windows_in_use_share_no_memory() -> None:
    memory = LentWindows()
    windows = []
    for number, octets in enumerate((8, 16, 4, 16, 32) * 3):
        windows.append(memory.take(octets))
        windows[-1][:] = number
        if len(windows) % 4 == 0:
            windows.pop(0)
    numbers = [np.unique(window).tolist() for window in windows]
    assert numbers == sorted(numbers) and all(len(each) == 1 for each in numbers)
    assert len({each[0] for each in numbers}) == len(windows)
