"""``pcap2arrow remove``."""

from __future__ import annotations

import click

from jobs.cli.options import dataset_argument
from jobs.cli.slices import TIMES, zone_option


@click.command(short_help="Take captures out of a dataset.")
@dataset_argument
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option(
    "--before",
    metavar="T",
    help=f"Take out every capture whose packets are all earlier. {TIMES}",
)
@zone_option
def command(dataset: str, names: tuple[str, ...], before: str | None, tz: str | None) -> None:
    """Take captures out of a dataset, all at once, and print their names; their files go at the next vacuum.

    \b
    pcap2arrow remove dataset monday.pcap tuesday.pcap
    pcap2arrow remove dataset --before 2024-01-01T00:00:00Z
    """
    from jobs.cli.output import say
    from pcap2arrow.dataset.api import remove
    from pcap2arrow.errors import ConflictError

    if not names and before is None:
        raise click.UsageError("name captures, or give --before")
    try:
        time = None if before is None else _time(dataset, before, tz)
        removed = remove(dataset, names, before=time)
    except ConflictError as error:
        raise click.UsageError(str(error)) from error
    for name in removed:
        say(name)


def _time(dataset: str, text: str, tz: str | None) -> int:
    from pcap2arrow.dataset.log import open_dataset
    from queries.timespec import parse_time
    from queries.zones import resolve_zone

    captures = open_dataset(dataset).snapshot().captures.values()
    first = min((c.first_time for c in captures if c.first_time is not None), default=None)
    return parse_time(text, base=first, zone=resolve_zone(tz))
