"""``pcap2arrow unit``."""

from __future__ import annotations

import click

from jobs.cli.options import json_option, plan_argument


@click.command(short_help="Write units of a plan.")
@plan_argument
@click.argument("indexes", metavar="INDEX...", nargs=-1, required=True, type=click.IntRange(min=0))
@json_option
def command(plan: str, indexes: tuple[int, ...], as_json: bool) -> int:
    """Write units of a planned conversion, counted from 0; writing one again changes nothing.

    What was written becomes visible by `commit`.

    \b
    pcap2arrow unit /shared/plan 17
    seq 0 119 | xargs -n 1 -P 4 pcap2arrow unit /shared/plan
    """
    from jobs.cli.conversion import write_units

    return write_units(plan, indexes, as_json=as_json)
