"""``pcap2arrow convert``."""

from __future__ import annotations

from typing import Any

import click

from jobs.cli.options import (
    captures_argument,
    conversion_options,
    json_option,
    scheduler_options,
    worker_options,
)


@click.command(short_help="Convert captures into a dataset.")
@captures_argument
@click.option(
    "-o",
    "--output",
    "dataset",
    required=True,
    metavar="DATASET",
    help="Directory or URL; made if there is none.",
)
@conversion_options
@scheduler_options
@worker_options
@json_option
def command(captures: tuple[str, ...], dataset: str, as_json: bool, **settings: Any) -> int:
    """Convert captures into a dataset of Parquet files.

    CAPTURE is a file, directory (walked), glob, URL, or - for standard input: pcap or pcapng, perhaps
    compressed (gzip, bzip2, xz, zstd, lz4, zip of one file), told by its contents. Files of directories and
    globs that are no captures are left out. Captures that are in the dataset already, and have not changed, are
    skipped. A capture becomes visible whole or not at all; a conversion that was killed is finished by running it
    again.

    \b
    pcap2arrow convert captures/ -o dataset
    pcap2arrow convert 'trace-*.pcap.gz' -o dataset --frames referenced --workers 8
    tcpdump -i eth0 -w - | pcap2arrow convert - -o dataset
    pcap2arrow convert /archive -o /shared/dataset --scheduler tls://scheduler:8786 --json
    """
    from jobs.cli.conversion import run_conversion

    return run_conversion(captures, dataset, as_json=as_json, **settings)
