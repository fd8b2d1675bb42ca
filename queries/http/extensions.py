"""Extensions of files for media types."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib.resources import files


def extension(content_type: str | None) -> str:
    """What a file of that ``Content-Type`` ends with, its dot included; nothing for types that are not known.

    >>> extension("text/html; charset=utf-8")
    '.html'
    """
    found = _extensions().get((content_type or "").partition(";")[0].lower())
    return f".{found}" if found is not None else ""


@functools.cache
def _extensions() -> Mapping[str, str]:
    lines = files(__package__).joinpath("extensions.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.partition("\t") for line in lines if not line.startswith("#")]
    return {media_type: ending for media_type, _, ending in rows}
