"""``pcap2arrow files``."""

from __future__ import annotations

from typing import Literal

import click

from jobs.cli.options import dataset_argument


@click.command(short_help="List a dataset's files, for other tools.")
@dataset_argument
@click.option(
    "--table",
    type=click.Choice(("packets", "captures", "blocks")),
    default="packets",
    show_default=True,
    help="The table whose files are listed.",
)
def command(dataset: str, table: Literal["packets", "captures", "blocks"]) -> None:
    """Print the paths or URLs of a dataset's live Parquet files, one per line.

    Files that stand in the folder and not in this list are of no capture, or of one that was removed: other
    tools have to read these and no others.

    \b
    pcap2arrow files dataset
    pcap2arrow files dataset --table captures
    """
    import os

    from pcap2arrow.dataset.api import files

    for path in files(dataset, table=table):
        click.echo(os.fsencode(path))
