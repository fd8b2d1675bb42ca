"""Filter expressions ready to run: read once, compiled for every link type that comes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from pcap2arrow.errors import FilterError
from queries.filters.columns import NO_REGULAR_FRAME, ColumnPlan, column_plan
from queries.filters.generate import generated
from queries.filters.generate.code import Code
from queries.filters.heads import HeadPlan, head_plan
from queries.filters.language.names import Names
from queries.filters.language.parser import parse
from queries.filters.language.terms import Term
from queries.filters.program import Arithmetic, Load, Operand, Program, WireLength
from queries.filters.prune import Ranges, may_select
from queries.filters.reach import accepts_nothing
from queries.filters.uncollected import uncollected

if TYPE_CHECKING:
    from queries.filters.machine.plan import Plan

HOST_ORDER_LINK_TYPES = frozenset({0, 109})
"""Link types whose header is in the byte order of the machine that captured: NULL and ENC."""


@dataclass(slots=True)
class LinkFilter:
    """A filter for frames of one link type.

    ``program`` runs on octets, ``columns`` on columns of the packet table (None: that tells nothing); ``code`` is what
    both were made from (None: it accepts everything).
    ``accepts_nothing`` says that no frame can match: libpcap's optimiser refuses such an expression.
    """

    program: Program
    code: Code | None
    columns: ColumnPlan | None
    accepts_nothing: bool
    _plan: Plan | None = None
    _heads: HeadPlan | Literal[False] | None = False

    @property
    def plan(self) -> Plan:
        """The program, ready to run; made when it is first asked for."""
        if self._plan is None:
            from queries.filters.machine.plan import plan

            with uncollected():
                self._plan = plan(self.program)
        return self._plan

    @property
    def heads(self) -> HeadPlan | None:
        """The filter as an expression on ``irregular_head``, None without one; made when it is first asked for."""
        if self._heads is False:
            self._heads = None if self.code is None else head_plan(self.code)
        return self._heads

    @property
    def reads_length(self) -> bool:
        """Whether the length on the wire is asked for."""
        waiting: list[Operand] = [part for test in self.program.tests for part in (test.left, test.right)]
        while waiting:
            match waiting.pop():
                case WireLength():
                    return True
                case Arithmetic(left=left, right=right):
                    waiting += [left, right]
                case Load(index=index) if index is not None:
                    waiting.append(index)
        return False

    def within(self, ranges: Ranges) -> LinkFilter:
        """The filter for files with these ranges of columns, which may say that only irregular frames can match."""
        if self.columns is None or self.code is None or may_select(self.code, ranges):
            return self
        return replace(self, columns=NO_REGULAR_FRAME)

    @property
    def accepts_everything(self) -> bool:
        """Whether there is nothing to test."""
        return not self.program.tests and not self.program.before


@dataclass(slots=True)
class Filter:
    """A filter expression; ``term`` is what it says, None where it is empty and accepts everything."""

    text: str
    term: Term | None
    names: Names
    netmask: int
    _compiled: dict[tuple[int, bool], LinkFilter | FilterError] = field(default_factory=dict)

    def for_link_type(self, link_type: int, *, big_endian: bool = False) -> LinkFilter:
        """The filter for frames of a link type, from captures that are ``big_endian`` (which matters for few).

        Raises :class:`FilterError` where the expression means nothing there.
        """
        key = link_type, big_endian and link_type in HOST_ORDER_LINK_TYPES
        if key not in self._compiled:
            try:
                with uncollected():
                    self._compiled[key] = self._compile(*key)
            except FilterError as error:
                self._compiled[key] = FilterError(
                    error.reason, text=self.text, span=error.span, hint=error.hint
                )
        compiled = self._compiled[key]
        if isinstance(compiled, FilterError):
            raise compiled
        return compiled

    def _compile(self, link_type: int, big_endian: bool) -> LinkFilter:
        made = generated(
            self.term, link_type=link_type, netmask=self.netmask, names=self.names, swapped=big_endian
        )
        columns = None if made.code is None else column_plan(made.code, link_type)
        return LinkFilter(made.program, made.code, columns, accepts_nothing(made.program))


def compile_filter(text: str, *, names: Names | None = None, netmask: int = 0) -> Filter:
    """A filter from an expression of pcap-filter(7), as libpcap 1.10.3 reads it.

    ``names`` are those of hosts, networks and Ethernet addresses (None: what Debian has); ``netmask`` is what ``ip
    broadcast`` goes by, 0 as for any savefile.  Raises :class:`FilterError` where the text breaks the grammar; what
    is wrong for a link type is only told when it is asked for.

    >>> compile_filter("tcp port 443").for_link_type(1).accepts_nothing
    False
    """
    with uncollected():
        term = parse(text)
    return Filter(text, term, names or Names.customary(), netmask)
