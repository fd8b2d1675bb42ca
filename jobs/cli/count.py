"""``pcap2arrow count``."""

from __future__ import annotations

import click

from jobs.cli.options import sources_argument


@click.command(short_help="Count packets.")
@sources_argument
def command(sources: tuple[str, ...]) -> int:
    """Print how many packets all sources hold together.

    SOURCE is a dataset or a capture (file, directory, glob, URL, - for standard input). A capture that a
    dataset holds under two names counts once.

    \b
    pcap2arrow count dataset
    pcap2arrow count captures/ more.pcap.gz
    """
    from jobs.cli.output import complain
    from jobs.count import count

    counted = count(sources)
    click.echo(counted.packets)
    for error in counted.errors:
        complain(error)
    return 1 if counted.errors else 0
