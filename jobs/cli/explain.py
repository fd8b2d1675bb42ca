"""``pcap2arrow explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from jobs.cli.filters import name_options
from jobs.cli.options import checked, json_option

if TYPE_CHECKING:
    from pcap2arrow.errors import FilterError
    from queries.filters.explain import Explanation

WRONG = 2
_DEEPEST = 40  # terms that are indented by one more step

_ACCEPTS = {"all": "all packets", "none": "no packet: libpcap's optimiser refuses the expression"}
_OCTETS = {
    "none": "none",
    "irregular": "those of irregular packets, whose headers are cut or malformed",
    "unknown": "those of packets of which the columns do not tell",
    "all": "those of all packets",
}


def _link_type(text: str) -> int:
    from jobs.link_types import link_type_number

    return link_type_number(text)


@click.command(short_help="Tell what a filter expression means.")
@click.argument("expression", nargs=-1, metavar="EXPR...")
@click.option(
    "--link-type",
    default="EN10MB",
    show_default=True,
    callback=checked(_link_type),
    metavar="NAME|N",
    help="The link type of the packets, by tcpdump's name for it or by number.",
)
@name_options
@json_option
def command(expression: tuple[str, ...], link_type: int, as_json: bool, **options: Any) -> int:
    """Tell what an expression of pcap-filter(7) means: its terms, its tests, what they read, known traps.

    Words are joined by spaces. The tests are numbered, each with a load such as u16[12] (16 bits at octet 12 of
    the frame) and where to go if it holds, and if not. Of a dataset, only the columns are read that are named,
    and files are left out by the ranges of columns that their packets have.

    \b
    pcap2arrow explain 'vlan or udp port 53'
    pcap2arrow explain tcp port 80 --link-type LINUX_SLL --json
    """
    from jobs.cli.filters import chosen_filters
    from jobs.cli.output import complain_of_text
    from pcap2arrow.errors import FilterError
    from queries.filters.explain import explain

    text = " ".join(expression)
    try:
        chosen = chosen_filters(expression=text, **options).one
        assert chosen is not None
        explained = explain(chosen, link_type)
        error = explained.error
    except FilterError as wrong:
        explained, error = None, wrong
    if as_json:
        from jobs.cli.output import print_json_line

        print_json_line(_record(text, link_type, explained, error))
    else:
        _print(explained)
        if error is not None:
            complain_of_text(error)
    return 0 if error is None else WRONG


def _record(
    text: str, link_type: int, explained: Explanation | None, error: FilterError | None
) -> dict[str, Any]:
    record: dict[str, Any] = {"expression": text, "link_type": link_type, "error": None}
    if error is not None:
        record["error"] = {"reason": error.reason, "span": error.span, "hint": error.hint}
    if explained is not None:
        record |= {
            "terms": [
                {"depth": line.depth, "text": line.text, "span": line.span} for line in explained.terms
            ],
            "accepts": explained.accepts,
            "tests": explained.tests,
            "columns": explained.columns,
            "octets": explained.octets,
            "pruned_by": explained.pruned_by,
            "traps": [
                {"kind": trap.kind, "span": trap.span, "message": trap.message} for trap in explained.traps
            ],
        }
    return record


def _print(explained: Explanation | None) -> None:
    from jobs.cli.output import say
    from jobs.link_types import link_type_text

    if explained is None:
        return
    say(f"link type: {link_type_text(explained.link_type)}")
    _section("terms", [f"{'  ' * min(line.depth, _DEEPEST)}{line.text}" for line in explained.terms])
    if explained.error is not None:
        return
    _section("tests", list(explained.tests))
    if explained.accepts in _ACCEPTS:
        say(f"accepts: {_ACCEPTS[explained.accepts]}")
    say(f"columns read: {', '.join(explained.columns) or 'none'}")
    say(f"octets read: {_OCTETS[explained.octets]}")
    say(f"files left out by: {', '.join(('link_type', *explained.pruned_by))}")
    _section("traps", [trap.message for trap in explained.traps])


def _section(heading: str, lines: list[str]) -> None:
    from jobs.cli.output import say

    if lines:
        say(f"{heading}:")
    for line in lines:
        say(f"  {line}")
