"""What is looked for in streams: HTTP, and what a function of the user's makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.functions import load_function

if TYPE_CHECKING:
    import polars as pl

    from queries.streams.bucket import Bucket

STREAMS, HTTP = "streams", "http"
"""The tables of streams and of transactions."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What is looked for in streams: HTTP, and what a function says that is named as ``module:function``."""

    with_http: bool = False
    function: str | None = None

    def __bool__(self) -> bool:
        return self.with_http or self.function is not None

    def check(self) -> None:
        """Raise UsageError where there is no such function."""
        if self.function is not None:
            load_function(self.function)

    def look_into(
        self, bucket: Bucket, names: Mapping[int, str], streams: pl.DataFrame, folder: str | None
    ) -> tuple[dict[str, pl.DataFrame], tuple[str, ...]]:
        """What is in a bucket's streams, whose names and table these are: tables, and what users should know.

        Bodies of HTTP become files of a folder.  Raises ExportError where a file can't be written.
        """
        tables, warnings = {STREAMS: streams}, []
        if self.with_http:
            from queries.http.bodies import Rules, bodies
            from queries.http.transactions import transactions_table

            rules = Rules(as_tcpflow=bucket.rules.as_tcpflow)
            found = bodies(bucket, names, rules, folder=None if folder is None else Path(folder))
            tables[HTTP] = transactions_table(bucket, found, names)
            warnings += found.warnings
        if self.function is not None:
            from queries.streams.mapping import mapped

            said = mapped(bucket, names, load_function(self.function), title=self.function)
            tables[STREAMS] = said.column(streams)
            warnings += said.warnings
        return tables, tuple(warnings)
