"""``pcap2arrow verify``."""

from __future__ import annotations

from typing import Any

import click

from jobs.cli.options import dataset_argument, json_option, scheduler_options, worker_options


@click.command(short_help="Prove that a dataset gives its captures back.")
@dataset_argument
@scheduler_options
@worker_options
@json_option
def command(dataset: str, scheduler: str | None, as_json: bool, **settings: Any) -> int:
    """Rebuild every capture from a dataset; compare it with its source or, if that is gone, its checksums.

    One line per capture, and exit code 1 if one differs.

    \b
    pcap2arrow verify dataset
    pcap2arrow verify /shared/dataset --scheduler tls://scheduler:8786
    """
    import dataclasses

    from jobs.cli.output import complain, print_json_line, say
    from jobs.executors import THREADS
    from jobs.reports import named
    from jobs.verify import verify

    failed = False
    for report in verify(dataset, scheduler=scheduler or THREADS, **settings):
        failed |= not report.ok
        if as_json:
            print_json_line(dataclasses.asdict(report))
        elif report.ok:
            say(f"{report.name}: equals its {report.against}")
        if not report.ok:
            complain(named(report.name, report.name, report.error or "differs"))
    return 1 if failed else 0
