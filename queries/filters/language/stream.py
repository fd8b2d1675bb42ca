"""The tokens of an expression one after another, and the refusal of one that can't stand where it does."""

from __future__ import annotations

from pcap2arrow.errors import FilterError
from queries.filters.language.hints import hint
from queries.filters.language.tokens import SYNTAX_ERROR, Token, scan

TOO_DEEP = "can't parse filter expression: memory exhausted"

MAX_DEPTH = 10_000
"""Parentheses, brackets and operators that may be open at a time: no fewer than libpcap's parser has room for."""


class TokenStream:
    """The tokens of ``text``, of which those before ``position`` are taken."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = scan(text)
        self.position = 0

    @property
    def current(self) -> Token:
        """The token that comes next."""
        return self.tokens[self.position]

    @property
    def following(self) -> Token:
        """The token after the current one; after the last one, that again."""
        return self.tokens[min(self.position + 1, len(self.tokens) - 1)]

    @property
    def end(self) -> int:
        """Where the last token that was taken ends."""
        return self.tokens[self.position - 1].span[1] if self.position else 0

    def accept(self, *kinds: str) -> Token | None:
        """Take the current token if it is of one of these kinds."""
        token = self.current
        if token.kind not in kinds:
            return None
        self.position += 1
        return token

    def take(self, *kinds: str) -> Token:
        """Take the current token, which has to be of one of these kinds; raises :class:`FilterError`."""
        token = self.accept(*kinds)
        if token is None:
            raise self.refusal()
        return token

    def refusal(self) -> FilterError:
        """The error that the current token can't stand where it does."""
        token = self.current
        if token.kind == "error" and token.word != SYNTAX_ERROR:
            return FilterError(token.word, text=self.text, span=token.span)
        advice = hint(self.text, self.tokens, self.position)
        return FilterError(SYNTAX_ERROR, text=self.text, span=token.span, hint=advice)

    def too_deep(self) -> FilterError:
        """The error that the current token nests too deeply."""
        return FilterError(TOO_DEEP, text=self.text, span=self.current.span, hint="nested too deeply")
