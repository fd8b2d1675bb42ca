"""A function of a user's over every stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from queries.streams.bucket import Bucket
from queries.streams.files import contents, filled


@dataclass(slots=True)
class Mapped:
    """What a function said of streams, by their numbers, as text; and sentences about where it failed."""

    results: dict[int, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def column(self, streams: pl.DataFrame) -> pl.DataFrame:
        """The table of streams with the column ``result``, null where the function said nothing."""
        values = [self.results.get(number) for number in streams["stream"].to_list()]
        return streams.with_columns(pl.Series("result", values, dtype=pl.String))


def mapped(
    bucket: Bucket, names: Mapping[int, str], function: Callable[[bytes], object], *, title: str
) -> Mapped:
    """Call a function with the octets of each stream that has a name, zeros where octets are missing.

    What it returns becomes text; None is no result.  Where it raises an exception, a sentence tells so, with the name
    of the stream and the ``title`` of the function, and the others go on.
    """
    found = Mapped()
    for stream, content in contents(bucket.packets, bucket.assembly, np.array(sorted(names), np.int64)):
        octets, problem = filled(content)
        if problem is not None:
            found.warnings.append(f"{names[stream]}: {problem}: {title} gets what is before")
        try:
            result = function(bytes(octets))
        except Exception as error:  # whatever a function does
            found.warnings.append(f"{names[stream]}: {title}: {type(error).__name__}: {error}")
            continue
        if result is not None:
            found.results[stream] = str(result)
    return found
