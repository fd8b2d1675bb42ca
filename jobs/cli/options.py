"""Arguments and options that several verbs share, each declared once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

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


def scheduler_options(function: _F) -> _F:
    """``--scheduler`` and ``--workers``."""
    scheduler = click.option(
        "--scheduler",
        metavar="threads|processes|ADDRESS",
        help="Where tasks run: threads of this process, processes of this machine, or the Dask cluster at an "
        "address such as tls://scheduler:8786.  [default: processes for much input, else threads]",
    )
    workers = click.option(
        "--workers",
        type=click.IntRange(min=1),
        metavar="N",
        help="Tasks at once.  [default: one per processor]",
    )
    return scheduler(workers(function))
