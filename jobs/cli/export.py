"""``pcap2arrow export``."""

from __future__ import annotations

import sys
from typing import Any

import click

from jobs.cli.options import sources_argument


@click.command(short_help="Write packets or whole captures back out.")
@sources_argument
@click.option(
    "-w",
    "--write",
    "target",
    required=True,
    metavar="FILE",
    help="File to write, - for standard output.",
)
@click.option("--capture", metavar="NAME", help="Only the capture of that name.")
@click.option(
    "--format",
    type=click.Choice(("auto", "pcap", "nspcap", "pcapng", "original")),
    default="auto",
    show_default=True,
    help="auto: pcap where it can hold the packets, else nspcap (nanoseconds), else pcapng.",
)
@click.option("--snaplen", type=click.IntRange(min=1), metavar="N", help="Cut packets to N octets.")
def command(sources: tuple[str, ...], target: str, **settings: Any) -> int:
    """Write the packets of all sources, merged by time, to one capture.

    SOURCE is a dataset or a capture (file, directory, glob, URL, - for standard input). With --format
    original, captures are written as they were, octet for octet (decompressed, if they were compressed): one
    with --capture NAME, or all of them with -w DIRECTORY/, each under its name.

    \b
    pcap2arrow export dataset -w all.pcapng
    pcap2arrow export dataset -w - | tcpdump -r -
    pcap2arrow export dataset --capture monday.pcap --format original -w monday.pcap
    pcap2arrow export dataset --format original -w captures/
    """
    if target == "-" and sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal: name a file, or use a pipe")
    from jobs.cli.output import complain
    from pcap2arrow.writing.api import export

    report = export(sources, target, **settings)
    for error in report.errors:
        complain(error)
    return 1 if report.errors else 0
