"""Settings of Dask's that we need otherwise, unless the user has set them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dask.config
import distributed  # noqa: F401 (its defaults are among Dask's from then on)
import yaml

FILE = Path(__file__).with_name("pcap2arrow.yaml")
"""What we set, and why."""


def settings() -> dict[str, Any]:
    """Our settings by their dotted names, for :func:`dask.config.set`, without those that a user has set.

    A user sets them in Dask's files or environment, or in this process by :func:`dask.config.set`.
    """
    chosen, defaults = dask.config.collect(), dask.config.merge(*dask.config.defaults)

    def is_free(name: str) -> bool:
        default = dask.config.get(name, default=None, config=defaults)
        unset = dask.config.get(name, default=None, config=chosen) is None
        return unset and dask.config.get(name, default=None) == default

    return {name: value for name, value in _flat(yaml.safe_load(FILE.read_text())) if is_free(name)}


def seconds(name: str) -> float:
    """A setting that is a length of time."""
    return float(dask.utils.parse_timedelta(dask.config.get(name)))


def log_level() -> int:
    """How much of what Dask logs is shown: errors reach users as such, so nothing unless somebody looks for faults."""
    return logging.WARNING if logging.getLogger().isEnabledFor(logging.DEBUG) else logging.CRITICAL


def _flat(part: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in part.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{rest}", each) for rest, each in _flat(value))
        else:
            yield name, value
