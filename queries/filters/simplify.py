"""What code says when more is known than it knows itself: comparisons whose outcome follows from those before.

Only what was loaded before on the same way is taken as known, so no load that may reject a frame is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from queries.filters.generate.code import ALWAYS, NEVER, Check, Code, Every, Inverse, Some
from queries.filters.program import Arithmetic, Constant, Load, Operand

Known = Mapping[Operand, frozenset[int]]
"""Operands of which it is known that their value is one of a few."""

NOTHING: Known = {}


@dataclass(frozen=True, slots=True)
class Simplified:
    """Simpler code, and what is known where it is true."""

    code: Code
    known: Known


def simplified(code: Code, known: Known = NOTHING) -> Simplified:
    """The code without comparisons that are true or false anyway; it calls itself, so depth must be bounded."""
    match code:
        case Check():
            return _check(code, known)
        case Inverse(part):
            inverse = _inverse(simplified(part, known).code)
            return Simplified(inverse, _known_if_false(part, known))
        case Every(parts):
            return _every(parts, known)
        case Some(parts):
            return _some(parts, known)


def _check(check: Check, known: Known) -> Simplified:
    outcome = _outcome(check, known)
    if outcome is not None:
        return Simplified(ALWAYS if outcome else NEVER, known)
    if check.operator == "=" and isinstance(check.right, Constant):
        return Simplified(check, {**known, check.left: frozenset((check.right.value,))})
    return Simplified(check, known)


def _known_if_false(code: Code, known: Known) -> Known:
    """What is not above 0 is 0: so fragment offsets are asked for."""
    if isinstance(code, Check) and (code.operator, code.right) == (">", Constant(0)):
        return {**known, code.left: frozenset((0,))}
    return known


def _outcome(check: Check, known: Known) -> bool | None:
    """True or false where that is known; stores of registers keep a check as it is."""
    lefts, rights = _values(check.left, known), _values(check.right, known)
    if lefts is None or rights is None or check.stores:
        return None
    outcomes = {_holds(left, check.operator, right) for left in lefts for right in rights}
    return outcomes.pop() if len(outcomes) == 1 else None


def _values(operand: Operand, known: Known) -> frozenset[int] | None:
    if isinstance(operand, Constant) and type(operand) is Constant:
        return frozenset((operand.value,))
    if isinstance(operand, Load | Arithmetic):
        return known.get(operand)
    return None


def _holds(left: int, operator: str, right: int) -> bool:
    return left == right if operator == "=" else left > right if operator == ">" else left >= right


def _inverse(code: Code) -> Code:
    if isinstance(code, Inverse):
        return code.part
    return NEVER if code == ALWAYS else ALWAYS if code == NEVER else Inverse(code)


def _every(parts: tuple[Code, ...], known: Known) -> Simplified:
    kept: list[Code] = []
    for part in parts:
        simple = simplified(part, known)
        known = simple.known
        if simple.code == NEVER and not kept:
            return Simplified(NEVER, known)
        if simple.code != ALWAYS:
            kept += simple.code.parts if isinstance(simple.code, Every) else (simple.code,)
        if simple.code == NEVER:
            break
    return Simplified(_joined(kept, Every, ALWAYS), known)


def _some(parts: tuple[Code, ...], known: Known) -> Simplified:
    kept: list[Code] = []
    ways: list[Known] = []
    for part in parts:
        simple = simplified(part, known)
        if simple.code == NEVER:
            continue
        ways.append(simple.known)
        kept += simple.code.parts if isinstance(simple.code, Some) else (simple.code,)
        if simple.code == ALWAYS:
            break
    if kept == [ALWAYS]:
        return Simplified(ALWAYS, ways[0])
    return Simplified(_joined(kept, Some, NEVER), _common(ways) if ways else known)


def _joined(parts: list[Code], kind: type[Every] | type[Some], empty: Code) -> Code:
    if len(parts) > 1:
        return kind(tuple(parts))
    return parts[0] if parts else empty


def _common(ways: list[Known]) -> Known:
    """What is known whichever way was taken."""
    first, *others = ways
    return {
        operand: values.union(*(way[operand] for way in others))
        for operand, values in first.items()
        if all(operand in way for way in others)
    }
