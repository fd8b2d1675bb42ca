"""Arguments and options that several verbs share, each declared once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar

import click

from jobs.cli.times import parse_octets, parse_seconds
from pcap2arrow.errors import UsageError

_F = TypeVar("_F", bound=Callable[..., Any])
_Callback = Callable[[click.Context, click.Parameter, Any], Any]


def checked(parse: Callable[[str], Any]) -> _Callback:
    """A callback that has each value parsed, and makes a wrong one an error of the command line."""

    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        try:
            if isinstance(value, tuple):
                return tuple(map(parse, value))
            return None if value is None else parse(value)
        except UsageError as error:
            raise click.BadParameter(str(error), context, parameter) from error

    return callback


def taken(options: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Those of the options, taken out of them."""
    return {name: options.pop(name) for name in names}


def _source(argument: str) -> str:
    from jobs.sources import check_source

    return check_source(argument)


def _dataset(argument: str) -> str:
    from jobs.sources import check_dataset

    return check_dataset(argument)


def captures_argument(function: _F) -> _F:
    """``CAPTURE…``: files, directories, globs, URLs, ``-``."""
    return _several("captures", "CAPTURE...")(function)


def sources_argument(function: _F) -> _F:
    """``SOURCE…``: datasets and captures."""
    return _several("sources", "SOURCE...")(function)


def _several(name: str, metavar: str) -> Callable[[_F], _F]:
    return click.argument(name, nargs=-1, required=True, metavar=metavar, callback=checked(_source))


def dataset_argument(function: _F) -> _F:
    """``DATASET``: one that is there."""
    return click.argument("dataset", metavar="DATASET", callback=checked(_dataset))(function)


def json_option(function: _F) -> _F:
    """``--json``, as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON, for programs.")(function)


def conversion_options(function: _F) -> _F:
    """How captures are converted: ``--frames``, ``--on-error``, ``--replace``, ``--rehash``, ``--partition-by``."""
    options = (
        click.option(
            "--frames",
            type=click.Choice(("stored", "referenced", "none")),
            default="stored",
            show_default=True,
            help="Keep packets' octets in the table, look them up in the capture when needed, or give them up.",
        ),
        click.option(
            "--on-error",
            type=click.Choice(("salvage", "strict")),
            default="salvage",
            show_default=True,
            help="Keep every whole packet of a damaged capture, or refuse the capture.",
        ),
        click.option(
            "--replace", is_flag=True, help="Take the place of live captures of the same name or content."
        ),
        click.option("--rehash", is_flag=True, help="Read a capture even if its file has not changed."),
        click.option(
            "--partition-by",
            type=click.Choice(("date", "hour", "none")),
            default="date",
            show_default=True,
            help="Folder of a packet: by its UTC date, by its hour, or one for all.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def plan_argument(function: _F) -> _F:
    """``PLAN``: the folder or URL of a plan."""
    return click.argument("plan", metavar="PLAN")(function)


def scheduler_options(function: _F) -> _F:
    """``--scheduler`` and ``--workers``."""
    scheduler = click.option(
        "--scheduler",
        metavar="threads|processes|dask|ADDRESS",
        help="Where tasks run: threads of this process, processes of this machine, a Dask cluster on it, or the Dask "
        "cluster at an address such as tls://scheduler:8786.  [default: processes for much input, else threads]",
    )
    workers = click.option(
        "--workers",
        type=click.IntRange(min=1),
        metavar="N",
        help="Tasks at once.  [default: one per processor]",
    )
    return scheduler(workers(function))


SCHEDULING = ("scheduler", "workers", "limits", "tell_dashboard", "temporary")
"""What the options of schedulers, workers and temporary files are called."""


def worker_options(function: Callable[..., int]) -> Callable[..., int]:
    """``--time-limit`` and ``--memory-limit``, as ``limits``, and ``--dashboard``, as ``tell_dashboard``."""

    @wraps(function)
    def command(
        *arguments: Any, time_limit: float | None, memory_limit: int | None, dashboard: bool, **options: Any
    ) -> int:
        from jobs.limits import Limits

        limits = Limits(time_limit, memory_limit)
        return function(*arguments, limits=limits, tell_dashboard=_say if dashboard else None, **options)

    time = click.option(
        "--time-limit",
        callback=checked(lambda text: parse_seconds(text) / 1e9),
        metavar="TIME",
        help="Give up what a worker takes longer for, such as 300 or 10m; not with threads.  "
        "[default: a minute, and a second per megabyte]",
    )
    memory = click.option(
        "--memory-limit",
        callback=checked(parse_octets),
        metavar="SIZE",
        help="Give up what a worker takes more memory for, such as 2G; not with threads.  "
        "[default: an even share of the machine's]",
    )
    browser = click.option(
        "--dashboard", is_flag=True, help="With --scheduler dask: show it in a browser on this machine."
    )
    return time(memory(browser(command)))


def _say(address: str) -> None:
    from jobs.cli.output import complain

    complain(f"dashboard: {address}")


def temporary_option(function: _F) -> _F:
    """``--temp-dir``, as ``temporary``."""
    return click.option(
        "--temp-dir",
        "temporary",
        metavar="DIR",
        help="Folder for what does not fit in memory; a cluster has to reach it.  [default: the system's]",
    )(function)


def defrag_option(function: _F) -> _F:
    """``--defrag`` and ``--no-defrag``."""
    return click.option(
        "--defrag/--no-defrag", default=True, show_default=True, help="Put fragments of IP together first."
    )(function)
