"""What may have been meant where an expression breaks the grammar."""

from __future__ import annotations

from queries.filters.tokens import Token


def hint(text: str, tokens: list[Token], at: int) -> str | None:
    """What may have been meant by the token of that number, which can't stand there; None where nothing is likely."""
    return None
