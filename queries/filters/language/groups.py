"""Terms in the same parentheses while they are read: what may come next, and what identifiers take over."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Flag, auto

from queries.filters.language.terms import And, Not, Or, Qualifiers, Term


class Admits(Flag):
    """What may come next."""

    TERM = auto()
    IDENTIFIER = auto()
    LIST = auto()
    """Identifiers in parentheses, with ``and`` and ``or`` between them."""

    AFTER_TERM = TERM | IDENTIFIER | LIST
    AFTER_IDENTIFIER = IDENTIFIER | LIST
    """After qualifiers, too."""

    @property
    def negated(self) -> Admits:
        """What may come after ``not``."""
        return self | Admits.LIST if Admits.IDENTIFIER in self else self

    @property
    def inside(self) -> Admits:
        """What may come first in parentheses: no list begins with a list."""
        return self & Admits.TERM | (Admits.IDENTIFIER if Admits.LIST in self else Admits(0))


@dataclass(slots=True)
class Group:
    """What was read in some parentheses, or outside of all.

    ``qualifiers`` are those that the next identifier takes over, None where there are none; ``qualified`` is where
    they start if they stand right before it.  ``start`` is where the first term starts, ``next_start`` the next one.
    """

    admits: Admits
    qualifiers: Qualifiers | None
    start: int
    next_start: int
    end: int = 0
    terms: list[Term] = field(default_factory=list)
    kind: type[And] | type[Or] = And
    negations: int = 0
    qualified: int | None = None
    is_list: bool | None = None

    @property
    def term(self) -> Term:
        """All that was read."""
        if len(self.terms) == 1:
            return self.terms[0]
        return self.kind(tuple(self.terms), (self.start, self.end))

    def negate(self) -> None:
        """Read ``not``."""
        self.negations += 1
        self.admits = self.admits.negated

    def qualify(self, qualifiers: Qualifiers, start: int) -> None:
        """Read the qualifiers of an identifier that comes next."""
        self.qualifiers = qualifiers
        self.qualified = start
        self.admits = Admits.AFTER_IDENTIFIER

    def add(self, term: Term, end: int, *, identifier: bool) -> None:
        """Read a term; ``identifier``: one without qualifiers of its own, or a list of those."""
        if self.negations % 2:
            term = term.term if isinstance(term, Not) else Not(term, (self.next_start, end))
        self.terms.append(term)
        self.end = end
        if self.is_list is None:
            self.is_list = identifier and self.qualified is None
        self.admits = Admits.AFTER_IDENTIFIER if self.is_list else Admits.AFTER_TERM
        self.negations = 0
        self.qualified = None

    def go_on(self, word: str, start: int) -> None:
        """Read ``and`` or ``or``, which bind equally, from left to right; the next term starts there."""
        kind = And if word == "and" else Or
        if kind is not self.kind or len(self.terms) == 1:
            left = self.term
            self.terms = list(left.terms) if isinstance(left, kind) else [left]
            self.kind = kind
        self.next_start = start
