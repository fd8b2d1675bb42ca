"""``pcap2arrow commit``."""

from __future__ import annotations

import click

from jobs.cli.options import json_option, plan_argument


@click.command(short_help="Make the captures of a plan visible.")
@plan_argument
@json_option
def command(plan: str, as_json: bool) -> int:
    """Make those captures of a planned conversion visible of which every unit is written.

    Others are named, with the units that they lack; once those are written, commit again. What is visible already
    stays as it is.

    \b
    pcap2arrow commit /shared/plan
    """
    from jobs.cli.conversion import commit_planned

    return commit_planned(plan, as_json=as_json)
