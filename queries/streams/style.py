"""How packets are printed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Style:
    """How packets are printed: with a ``heading`` (the name of their stream), colours, as ``binary``, hexadecimal
    or JSON; ``newline`` ends each.
    """

    heading: bool = True
    binary: bool = False
    newline: bool = True
    hexadecimal: bool = False
    colours: bool = False
    as_json: bool = False
