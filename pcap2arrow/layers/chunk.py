"""What goes into the decoder and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PAD = 256
"""Octets of readable space that :attr:`Chunk.data` has after the last packet: headers are read in one
piece."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Packets of one chunk of a capture, typically 64 k of them; arrays have one element per packet.

    ``data`` holds the packets and at least :data:`PAD` octets after the last one; ``start`` is where each
    packet starts in it.  ``caplen`` and ``frame_len`` are the octets captured and on the wire,
    ``link_type`` a LINKTYPE_ value.  ``fcs_len`` is how many octets of frame check sequence end the frame
    on the wire, 0 where there is none.
    """

    data: NDArray[np.uint8]
    start: NDArray[np.int64]
    caplen: NDArray[np.uint32]
    frame_len: NDArray[np.uint32]
    link_type: NDArray[np.uint16]
    fcs_len: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Values:
    """One decoded column: a value per packet, in the column's own type.

    ``valid`` is true where there is a value (None: everywhere); a value is 0 where it is null.  Columns
    that are null in the same packets mostly share one ``valid`` object.
    """

    values: NDArray[Any]
    valid: NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class Decoded:
    """What :func:`pcap2arrow.layers.decode` found in a chunk.

    ``columns`` has the decoded columns by name; one that is null in all packets is left out.
    ``header_len`` is how many octets at the start of each packet were decoded: there the frame is cut into
    ``header`` and ``rest``.
    """

    columns: dict[str, Values]
    header_len: NDArray[np.uint32]
