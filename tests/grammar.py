"""Random filter expressions by the grammar of tests/filters/grammar.tsv."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from random import Random

from tests.expressions import case_rows

_SYMBOL = re.compile(r"<([a-z][a-z0-9 ]*)>")
_DEEPEST = 12
_LONGEST = 400
"""Characters of an expression: longer ones need more registers or jumps than libpcap has."""

_SAME_TERMS = {163: 105, 119: 105, 127: 105, 192: 105, 15: 8, 50: 9, 51: 9, 166: 9, 7: 129, 139: 140}
"""Link types with the terms of another."""


def _alternatives() -> Mapping[str, Sequence[str]]:
    found: dict[str, list[str]] = {}
    for symbol, *texts in case_rows("grammar.tsv"):
        found.setdefault(symbol, []).extend(texts)
    return found


ALTERNATIVES = _alternatives()
"""Every symbol, and what may stand for it."""


def expression(random: Random, link_type: int) -> str:
    """An expression with terms of the link type, which libpcap may refuse all the same."""
    own = f"link {_SAME_TERMS.get(link_type, link_type)}"
    while True:
        text = _derived(random, "expression", own if own in ALTERNATIVES else "link", 0).strip()
        if len(text) <= _LONGEST and not text.startswith("-"):
            return text


def _derived(random: Random, symbol: str, own: str, depth: int) -> str:
    alternatives = ALTERNATIVES[own if symbol == "link" else symbol]
    text = random.choice(alternatives) if depth < _DEEPEST else alternatives[0]
    return _SYMBOL.sub(lambda match: _derived(random, match[1], own, depth + 1), text)
