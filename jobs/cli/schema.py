"""``pcap2arrow schema``."""

from __future__ import annotations

import click

from jobs.cli.options import json_option


@click.command(short_help="Print the reference of the packet table.")
@json_option
def command(as_json: bool) -> None:
    """Print every column of the packet table: name, type, meaning, unit, and Wireshark's name for it.

    \b
    pcap2arrow schema
    pcap2arrow schema --json | jq -r '.[].name'
    """
    from jobs.cli.output import print_json_list
    from jobs.reference import column_records, reference_lines

    if as_json:
        print_json_list(column_records())
    else:
        for line in reference_lines():
            click.echo(line)
