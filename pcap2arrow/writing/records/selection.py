"""Which of the packets of its sources an export takes: asked of whoever knows filters, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pcap2arrow.dataset.log import Dataset
    from pcap2arrow.dataset.snapshot import DataFile
    from pcap2arrow.savefile.batch import Records

Chosen = NDArray[np.bool_]
"""Which packets go where: a row per packet, a column per capture to write."""


class Selection(Protocol):
    """Chooses packets for one capture to write, or for several at once.

    ``big_endian`` tells of each batch the byte order of its capture, which link types such as NULL depend on.
    """

    def begin(self, link_types: Collection[int]) -> Collection[int]:
        """The numbers, from 0, of the captures that packets of these link types can go to.

        Raises FilterError where there is none.
        """

    def of_records(self, records: Records, *, big_endian: bool) -> Chosen:
        """Where the packets of some records go."""

    def of_file(self, dataset: Dataset, file: DataFile, *, big_endian: bool) -> Chosen:
        """Where the packets of a dataset's file go, in the file's order; all of them are of one capture."""


def unheard(reason: str) -> None:
    """Take no notice of damage."""


def unmetered(octets: int) -> None:
    """Take no notice of how much is read."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of a capture's packets.

    ``selection`` chooses them, None takes all; ``is_pcapng`` asks for the options of their blocks; ``as_seen`` for
    packets as libpcap sees them: cut to the snap length, with sub-seconds as a pcap has them.  ``damaged`` is told,
    where a capture is read, what can't be; ``read`` how many octets of its file, or of a dataset's files, were.
    """

    selection: Selection | None = None
    is_pcapng: bool = False
    as_seen: bool = False
    damaged: Callable[[str], None] = unheard
    read: Callable[[int], None] = unmetered
