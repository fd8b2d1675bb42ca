"""``pcap2arrow remove``."""

from __future__ import annotations

import click

from jobs.cli.options import checked, dataset_argument
from jobs.cli.times import parse_time


@click.command(short_help="Take captures out of a dataset.")
@dataset_argument
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option(
    "--before",
    callback=checked(parse_time),
    metavar="T",
    help="Take out every capture whose packets are all earlier: ISO 8601 with a zone, or seconds since 1970.",
)
def command(dataset: str, names: tuple[str, ...], before: int | None) -> None:
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
        removed = remove(dataset, names, before=before)
    except ConflictError as error:
        raise click.UsageError(str(error)) from error
    for name in removed:
        say(name)
