"""``pcap2arrow flows``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from jobs.cli.filters import chosen_filters, filter_options
from jobs.cli.options import (
    defrag_option,
    json_option,
    scheduler_options,
    sources_argument,
    taken,
    temporary_option,
    worker_options,
)
from jobs.cli.slices import chosen_range, time_options

_HEADINGS = (
    "time",
    "proto",
    "originator",
    "responder",
    "state",
    "packets",
    "octets",
    "answers",
    "octets ",
    "seconds",
)


@click.command(short_help="List connections: TCP, UDP and ICMP.")
@sources_argument
@filter_options
@time_options
@defrag_option
@click.option("-o", "--output", metavar="FILE", help="Write all columns to a .parquet, .csv or .ndjson file.")
@temporary_option
@scheduler_options
@worker_options
@json_option
def command(
    sources: tuple[str, ...],
    output: str | None,
    as_json: bool,
    defrag: bool,
    temporary: str | None,
    scheduler: str | None,
    workers: int | None,
    **packets: Any,
) -> int:
    """List the connections of all sources together, or write them to a file, with the names of Zeek's conn.log.

    SOURCE is a dataset or a capture (file, directory, glob, URL, - for standard input). A connection is that of a
    TCP handshake (a SYN with another sequence number begins another one), or all packets of UDP or ICMP between
    two endpoints. Octets are those of frames. Only outermost headers count. Fragments count as the packet that
    they make, with the octets of the frame that completes it.

    \b
    pcap2arrow flows capture.pcap
    pcap2arrow flows dataset -f 'port 443' -o connections.parquet
    pcap2arrow flows dataset --start +1h --end +5m --json | head
    pcap2arrow flows archive/ -o connections.parquet --scheduler tls://scheduler:8786 --temp-dir /shared/scratch
    """
    from jobs.cli.output import complain, print_json_line
    from jobs.flows.api import check_target, find_flows, write_flows
    from jobs.sources import fitting_scheduler

    if output is not None:
        check_target(output)
    scheduling = taken(packets, ("limits", "tell_dashboard"))
    times = chosen_range(sources, **taken(packets, ("start", "end", "tz")))
    chosen = chosen_filters(**packets)
    if chosen.lines is not None:
        raise click.UsageError("--filters: connections are of one filter: -f")
    with find_flows(
        sources,
        chosen=chosen.one,
        times=times,
        defrag=defrag,
        scheduler=scheduler or fitting_scheduler(sources, workers),
        workers=workers,
        temporary=temporary,
        **scheduling,
    ) as found:
        for reason in (*found.warnings, *found.errors):
            complain(reason)
        rows = (row for frame in found.frames() for row in frame.iter_rows(named=True))
        if output is not None:
            write_flows(found.frames(), output)
        elif as_json:
            for record in rows:
                print_json_line(_record(record))
        else:
            _print(rows)
    return 1 if found.errors else 0


def _record(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON has it: times as text in UTC, durations in seconds."""
    for name in ("ts", "last_time"):
        row[name] = None if row[name] is None else row[name].isoformat()
    for name in ("duration", "handshake_rtt"):
        row[name] = None if row[name] is None else row[name].total_seconds()
    return row


def _print(connections: Iterable[dict[str, Any]]) -> None:
    from jobs.cli.output import print_table

    rows = (
        (
            "" if row["ts"] is None else f"{row['ts']:%Y-%m-%d %H:%M:%S.%f}",
            row["proto"],
            _endpoint(row["id_orig_h"], row["id_orig_p"]),
            _endpoint(row["id_resp_h"], row["id_resp_p"]),
            row["conn_state"],
            str(row["orig_pkts"]),
            str(row["orig_frame_bytes"]),
            str(row["resp_pkts"]),
            str(row["resp_frame_bytes"]),
            "" if row["duration"] is None else f"{row['duration'].total_seconds():.6f}",
        )
        for row in connections
    )
    print_table(_HEADINGS, rows, numbers=_HEADINGS[5:])


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
