"""``pcap2arrow vacuum``."""

from __future__ import annotations

from datetime import timedelta

import click

from jobs.cli.options import checked, dataset_argument
from jobs.cli.times import parse_age


@click.command(short_help="Delete files that no capture needs.")
@dataset_argument
@click.option(
    "--older-than",
    callback=checked(parse_age),
    default="1d",
    show_default=True,
    metavar="AGE",
    help="Spare what is younger: hours, or a number with s, m, h or d.",
)
@click.option("--dry-run", is_flag=True, help="Only list what would be deleted.")
def command(dataset: str, older_than: timedelta, dry_run: bool) -> None:
    """Delete files that belong to no live capture: those of removed ones, and what killed conversions left.

    Keep the age above the time that the longest conversion or reader takes: files of running ones look the
    same.

    \b
    pcap2arrow vacuum dataset --dry-run
    pcap2arrow vacuum dataset --older-than 2h
    """
    from jobs.reports import octets_text, plural
    from pcap2arrow.dataset.api import vacuum

    report = vacuum(dataset, older_than=older_than, dry_run=dry_run)
    if dry_run:
        for path in report.deleted:
            click.echo(path)
    done = "would be deleted" if dry_run else "deleted"
    click.echo(f"{plural(len(report.deleted), 'file')}, {octets_text(report.octets)} {done}", err=dry_run)
