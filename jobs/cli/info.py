"""``pcap2arrow info``."""

from __future__ import annotations

import click

from jobs.cli.options import json_option, sources_argument


@click.command(short_help="Tell what captures hold.")
@sources_argument
@json_option
def command(sources: tuple[str, ...], as_json: bool) -> int:
    """Tell of each capture its format, packets, octets, first and last time, link types, and damage.

    SOURCE is a dataset or a capture (file, directory, glob, URL, - for standard input). With --json, a list
    with one object per capture; times are integer nanoseconds since 1970.

    \b
    pcap2arrow info dataset
    pcap2arrow info captures/*.pcap --json
    """
    from jobs.cli.output import complain, print_json_list, print_table
    from jobs.info import HEADINGS, NUMBERS, describe, table_row

    captures, errors = describe(sources)
    if as_json:
        print_json_list(captures)
    else:
        print_table(HEADINGS, map(table_row, captures), numbers=NUMBERS)
    for error in errors:
        complain(error)
    return 1 if errors else 0
