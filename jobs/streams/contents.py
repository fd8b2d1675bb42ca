"""What is looked for in streams: HTTP, and what a function of the user's makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.functions import load_function

if TYPE_CHECKING:
    import polars as pl

    from queries.http.bodies import Bodies
    from queries.streams.bucket import Bucket
    from queries.streams.dfxml import Findings
    from queries.streams.mapping import Mapped

STREAMS, HTTP = "streams", "http"
"""The tables of streams and of transactions."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What is looked for in streams: HTTP, and what a function says that is named as ``module:function``.

    Bodies of HTTP are decoded unless they are to be ``raw``; modules are looked for in the folder ``path`` first.
    """

    with_http: bool = False
    raw: bool = False
    function: str | None = None
    path: str | None = None

    def __bool__(self) -> bool:
        return self.with_http or self.function is not None

    def check(self) -> None:
        """Raise UsageError where there is no such function."""
        if self.function is not None:
            load_function(self.function, path=self.path)

    def look_into(self, bucket: Bucket, names: Mapping[int, str], folder: str | None) -> Found:
        """What is in a bucket's streams, whose names these are; bodies of HTTP become files of a folder.

        Raises ExportError where a file can't be written.
        """
        found, said = None, None
        if self.with_http:
            from queries.http.bodies import Rules, bodies

            rules = Rules(as_tcpflow=bucket.rules.as_tcpflow, raw=self.raw)
            found = bodies(bucket, names, rules, folder=None if folder is None else Path(folder))
        if self.function is not None:
            from queries.streams.mapping import mapped

            function = load_function(self.function, path=self.path)
            said = mapped(bucket, names, function, title=self.function)
        return Found(found, said)


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in a bucket's streams: messages of HTTP, and what a function said; None of what was not asked."""

    bodies: Bodies | None = None
    said: Mapped | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What users should know."""
        return tuple(
            warning for each in (self.bodies, self.said) if each is not None for warning in each.warnings
        )

    def tables(
        self, bucket: Bucket, names: Mapping[int, str], streams: pl.DataFrame
    ) -> dict[str, pl.DataFrame]:
        """The table of streams with what was found, and that of transactions."""
        made = {STREAMS: streams if self.said is None else self.said.column(streams)}
        if self.bodies is not None:
            from queries.http.transactions import transactions_table

            made[HTTP] = transactions_table(bucket, self.bodies, names)
        return made

    def findings(self, folder: str | None, digests: Sequence[str | None] | None) -> Findings:
        """What tcpflow's report says of it, and of the MD5 of streams; ``folder`` is where bodies are."""
        from queries.streams.dfxml import Findings, Inner

        of_stream = {} if self.bodies is None else self.bodies.of_stream
        inner = {
            stream: [
                Inner(each.message.offset, str(Path(folder or ".", each.name)), each.size)
                for each in messages
                if each.name is not None
            ]
            for stream, messages in of_stream.items()
        }
        return Findings(digests, inner, {} if self.said is None else self.said.results)


NOTHING = Found()
"""What is found where nothing is looked for."""
