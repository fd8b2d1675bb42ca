"""``pcap2arrow count``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from jobs.cli.filters import ChosenFilters, chosen_filters, filter_options
from jobs.cli.options import json_option, scheduler_options, sources_argument, taken, worker_options
from jobs.cli.slices import chosen_times, time_options

if TYPE_CHECKING:
    from jobs.count import CountedLine
    from pcap2arrow.times import Times


@click.command(short_help="Count packets, all or those that filters select.")
@sources_argument
@filter_options
@time_options
@scheduler_options
@worker_options
@json_option
def command(sources: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Print how many packets all sources hold together, or how many of them are of a time, or a filter selects.

    SOURCE is a dataset or a capture (file, directory, glob, URL, - for standard input). A capture that a
    dataset holds under two names counts once. With --filters, every expression of the file is counted in one
    pass, and printed on a line of its own: COUNT, a tab, and the expression, or ERROR, the expression and
    what is wrong with it. With --json the number is {"packets": N}, and lines are a list of such records.

    \b
    pcap2arrow count dataset
    pcap2arrow count captures/ more.pcap.gz
    pcap2arrow count dataset -f 'tcp port 443 and net 10.0.0.0/8'
    pcap2arrow count dataset --filters expressions.txt
    pcap2arrow count /shared/dataset -f 'udp port 53' --scheduler tls://scheduler:8786
    pcap2arrow count dataset --start 2024-05-01T12:00 --end +15m --tz Europe/Berlin
    """
    times = chosen_times(**{name: options.pop(name) for name in ("start", "end", "tz")})
    scheduling = taken(options, ("scheduler", "workers", "limits", "tell_dashboard"))
    scheduling["scheduler"] = scheduling["scheduler"] or "threads"
    chosen = chosen_filters(**options)
    if chosen.one is None and chosen.lines is None:
        return _count_all(sources, times, scheduling, as_json=as_json)
    return _count_selected(sources, times, chosen, scheduling, as_json=as_json)


def _count_all(sources: tuple[str, ...], times: Times, scheduling: dict[str, Any], *, as_json: bool) -> int:
    from jobs.cli.output import complain
    from jobs.count import count

    if times:
        from jobs.slices import count_slices

        counted = count_slices(sources, times, **scheduling)
    else:
        counted = count(sources, **scheduling)
    _print_count(counted.packets, as_json=as_json)
    for error in counted.errors:
        complain(error)
    return 1 if counted.errors else 0


def _count_selected(
    sources: tuple[str, ...],
    times: Times,
    chosen: ChosenFilters,
    scheduling: dict[str, Any],
    *,
    as_json: bool,
) -> int:
    from jobs.cli.output import complain, complain_of_text
    from jobs.count import count_selected, counted_lines, filter_warnings

    if times:
        from jobs.slices import count_slices_selected

        counted = count_slices_selected(sources, times, chosen.filters, **scheduling)
    else:
        counted = count_selected(sources, chosen.filters, **scheduling)
    for warning in filter_warnings(chosen.filters, counted.tally):
        complain(warning)
    if chosen.one is not None:
        wrong = counted.tally.refusal(0)
        if wrong is not None:
            complain_of_text(wrong)
            return 2
        _print_count(counted.tally.packets[0], as_json=as_json)
    lines = counted_lines(chosen.lines or [], counted.tally)
    if chosen.lines is not None:
        _print_lines(lines, as_json=as_json)
    for error in counted.errors:
        complain(error)
    return 1 if counted.errors or any(line.error is not None for line in lines) else 0


def _print_count(packets: int, *, as_json: bool) -> None:
    from jobs.cli.output import print_json_line

    if as_json:
        print_json_line({"packets": packets})
    else:
        click.echo(packets)


def _print_lines(lines: Sequence[CountedLine], *, as_json: bool) -> None:
    from jobs.cli.output import print_json_list

    if as_json:
        print_json_list(dataclasses.asdict(line) for line in lines)
    else:
        for line in lines:
            click.echo(str(line))
