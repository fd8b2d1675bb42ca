"""Chunks of packets for the decoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pcap2arrow.layers import PAD, Chunk
from tests.oracles.reader import Packet


def chunk_of(packets: Sequence[Packet], *, seed: int = 0, gap: int = 16) -> Chunk:
    """A chunk of these packets, with ``gap`` arbitrary octets before each and :data:`PAD` behind the last
    one."""
    caplen = np.array([packet.caplen for packet in packets], np.int64)
    ends = np.cumsum(caplen + gap)
    data = np.random.default_rng(seed).integers(0, 256, int(ends[-1] if ends.size else 0) + PAD, np.uint8)
    for packet, end in zip(packets, ends, strict=True):
        data[end - packet.caplen : end] = np.frombuffer(packet.data, np.uint8)
    return Chunk(
        data=data,
        start=ends - caplen,
        caplen=caplen.astype(np.uint32),
        frame_len=np.array([packet.frame_len for packet in packets], np.uint32),
        link_type=np.array([packet.link_type for packet in packets], np.uint16),
        fcs_len=np.array([packet.fcs_len for packet in packets], np.uint8),
    )
