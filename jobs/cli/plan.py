"""``pcap2arrow plan``."""

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


@click.command(short_help="Plan a conversion whose units a batch system runs.")
@captures_argument
@click.option("-o", "--output", "plan", required=True, metavar="PLAN", help="Directory or URL for the plan.")
@click.option(
    "--dataset", required=True, metavar="DATASET", help="What is converted into; made if there is none."
)
@conversion_options
@scheduler_options
@worker_options
@json_option
def command(captures: tuple[str, ...], plan: str, dataset: str, as_json: bool, **settings: Any) -> int:
    """Plan a conversion: its units can be written by any scheduler, in any order, on machines that see the same paths.

    Large captures are scanned now, and nothing is written but the plan. Then `unit` writes each unit, and `commit`
    makes captures visible. With --json the last line has the number of "units".

    \b
    pcap2arrow plan /archive -o /shared/plan --dataset /shared/dataset
    pcap2arrow unit /shared/plan 0        (and so on, up to the last)
    pcap2arrow commit /shared/plan
    sbatch --array=0-119 --wrap 'pcap2arrow unit /shared/plan $SLURM_ARRAY_TASK_ID'
    """
    from jobs.cli.conversion import run_planning

    return run_planning(captures, dataset, plan, as_json=as_json, **settings)
