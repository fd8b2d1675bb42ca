"""Time stamps of pcapng: ticks of any resolution to nanoseconds, and back where that is exact."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NANOS = 1_000_000_000
_MOST = (1 << 63) - 1


def to_nanoseconds(
    ticks: NDArray[np.uint64], *, resolution: int, offset: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Nanoseconds since 1970 (int64, rounded down) of ticks, and which of them fit.

    ``resolution`` is ``if_tsresol``: ticks per second are 10 to its power, or 2 to the power of its low seven bits
    if the high bit is set; ``offset`` is ``if_tsoffset`` in seconds.  Source: draft-ietf-opsawg-pcapng, 4.2.
    """
    power = resolution & 0x7F
    if resolution & 0x80:
        value, fits = _from_binary(ticks, power)
    elif power <= 9:
        scale = 10 ** (9 - power)
        fits = ticks <= np.uint64(_MOST // scale)
        value = np.where(fits, ticks, 0) * np.uint64(scale)
    else:
        value = ticks // np.uint64(10 ** (power - 9)) if power <= 28 else np.zeros_like(ticks)
        fits = value <= np.uint64(_MOST)
    nanoseconds = np.where(fits, value, 0).astype(np.int64)
    if offset:
        shift = offset * NANOS
        fits = fits & (nanoseconds <= min(_MOST, _MOST - shift)) & (nanoseconds >= max(0, -_MOST - shift))
        if not -_MOST <= shift <= _MOST:
            return np.zeros_like(nanoseconds), np.zeros_like(fits)
        nanoseconds = np.where(fits, nanoseconds, 0) + np.where(fits, shift, 0)
    return nanoseconds, fits


def _from_binary(ticks: NDArray[np.uint64], power: int) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Nanoseconds of ticks of 2^-power seconds, exact to the last bit without numbers wider than 64 bits."""
    if power >= 64:
        seconds, fraction = np.zeros_like(ticks), ticks
    else:
        seconds, fraction = ticks >> np.uint64(power), ticks & np.uint64((1 << power) - 1)
    low = (fraction & np.uint64(0xFFFFFFFF)) * np.uint64(NANOS)
    high = (fraction >> np.uint64(32)) * np.uint64(NANOS)
    if power >= 32:
        total, shift = high + (low >> np.uint64(32)), power - 32
    else:
        total, shift = low, power
    nanoseconds = total >> np.uint64(shift) if shift < 64 else np.zeros_like(total)
    fits = seconds <= np.uint64(_MOST // NANOS - 1)
    return np.where(fits, seconds, 0) * np.uint64(NANOS) + nanoseconds, fits


def is_exact(resolution: int) -> bool:
    """Whether every tick is a whole number of nanoseconds, so that :func:`from_nanoseconds` gives it back."""
    return resolution <= 9


def from_nanoseconds(time: NDArray[np.int64], *, resolution: int, offset: int) -> NDArray[np.uint64]:
    """Ticks of nanoseconds since 1970, for a resolution that :func:`is_exact` and times that came from it."""
    shift = min(max(offset * NANOS, -_MOST), _MOST)  # beyond that no time fits: nothing is given back
    ticks: NDArray[np.uint64] = ((time - shift) // 10 ** (9 - resolution)).astype(np.uint64)
    return ticks


def exact_nanoseconds(ticks: int, *, resolution: int, offset: int) -> int:
    """Nanoseconds since 1970 of one time stamp, rounded down, however large."""
    power = resolution & 0x7F
    nanoseconds = ticks * NANOS >> power if resolution & 0x80 else ticks * NANOS // 10**power
    return nanoseconds + offset * NANOS
