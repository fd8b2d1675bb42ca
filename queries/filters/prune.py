"""What a filter can't find in a file of Ethernet frames, by the least and greatest values that the file has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from queries.filters.columns import column_of
from queries.filters.generate.code import ALWAYS, NEVER, Check, Code, Every, Inverse, Some
from queries.filters.program import Constant
from queries.filters.simplify import NOTHING, Known, simplified

Ranges = Mapping[str, tuple[int, int]]

_NETWORK_TYPES = frozenset({0x0800, 0x0806, 0x8035, 0x86DD})
_EXTENSION_HEADERS = frozenset({0, 43, 44, 51, 60, 135, 139, 140})


@dataclass(frozen=True, slots=True)
class _Outcomes:
    """Whether code may be true, and whether it may be false, of any frame."""

    may_be_true: bool
    may_be_false: bool


_ANY = _Outcomes(True, True)


def may_select(code: Code, ranges: Ranges) -> bool:
    """Whether any frame that is not irregular may be selected, given ranges of columns (absent: unknown).

    What is null is in no range, and no comparison of it is true.
    """
    return _outcomes(simplified(code).code, NOTHING, ranges).may_be_true


def _outcomes(code: Code, known: Known, ranges: Ranges) -> _Outcomes:
    match code:
        case Check():
            return _of_check(code, known, ranges)
        case Inverse(part):
            inner = _outcomes(part, known, ranges)
            return _Outcomes(inner.may_be_false, inner.may_be_true)
        case Every(parts):
            found = []
            for part in parts:
                found.append(_outcomes(part, known, ranges))
                known = simplified(part, known).known
            return _Outcomes(
                all(each.may_be_true for each in found), any(each.may_be_false for each in found)
            )
        case Some(parts):
            found = [_outcomes(part, known, ranges) for part in parts]
            return _Outcomes(
                any(each.may_be_true for each in found), all(each.may_be_false for each in found)
            )


def _of_check(check: Check, known: Known, ranges: Ranges) -> _Outcomes:
    if check in (ALWAYS, NEVER):
        return _Outcomes(check == ALWAYS, check == NEVER)
    column = column_of(check.left, known)
    if column is None or check.operator != "=" or type(check.right) is not Constant:
        return _ANY
    value = check.right.value
    if column == "eth_type" and value in _NETWORK_TYPES:
        column = "network_type"  # the same, without tags before it
    elif column == "ip_proto" and value not in _EXTENSION_HEADERS:
        column = "l4_proto"
    least, greatest = ranges.get(column, (value, value))
    return _Outcomes(least <= value <= greatest, True)
