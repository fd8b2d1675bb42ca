"""Rounds of tasks: what they read, parts of sources in batches, large captures in units; and what kills a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import NoReturn, TypeVar

from jobs.executors import run_all
from pcap2arrow.conversion.guess import guessed_units
from pcap2arrow.conversion.options import Options
from pcap2arrow.conversion.placed import Unit
from pcap2arrow.conversion.scan import block_count, ranges
from pcap2arrow.errors import QuarantineError
from pcap2arrow.inputs import Input
from pcap2arrow.savefile.source import stamp
from pcap2arrow.tasks import NamedTask
from queries.streams.reading import Part, stored_octets

_T = TypeVar("_T")

Numbered = tuple[int, Part]
"""A part, and its number among all."""


def units(found: Input, executor: Executor, workers: int, octets: int) -> Sequence[Unit]:
    """Units of about so many octets of a capture that several tasks can read; none where one has to.

    They are found by a first look at where its records are; where that kills its worker, there are none.
    """
    from pcap2arrow.conversion.capture import join_parts, scan_part

    options = Options(block=octets)
    blocks = block_count(stored_octets(found) or 0, options.block)
    if blocks < 2 or workers < 2:
        return ()
    before = stamp(found.path)
    tasks = [
        NamedTask(found.name, partial(scan_part, found, first, last, options), (last + 1 - first) * octets)
        for first, last in ranges(blocks, blocks)
    ]
    try:
        scans = list(run_all(executor, workers, tasks))
    except QuarantineError:
        return ()
    return join_parts(found, before, scans, options).plan.units


def guesses(found: Input, octets: int) -> Sequence[Unit]:
    """The same as guesses, which those who read them have to prove: nothing of the capture is read but some places."""
    return guessed_units(found, octets) if (stored_octets(found) or 0) > octets else ()


def read_batches(
    executor: Executor,
    workers: int,
    some: Iterable[Sequence[Numbered]],
    task: Callable[[Sequence[Numbered]], Callable[[], _T]],
    given_up: Callable[[str], _T],
) -> Iterator[_T]:
    """The results of a ``task`` for each batch of parts, which have numbers.

    Where one kills its worker, its parts are read again, each by a task of its own; ``given_up`` makes a result of what
    there is to say of one that does so alone, by the name of its capture.
    """
    read = list(some)
    tasks = [
        NamedTask(each[0][1].name, task(each), sum_if_known(part.octets for _, part in each)) for each in read
    ]

    def lost(task: NamedTask, error: QuarantineError) -> QuarantineError:
        return error

    for parts, result in zip(read, run_all(executor, workers, tasks, lost=lost), strict=True):
        if not isinstance(result, QuarantineError):
            yield result
        elif len(parts) == 1:
            yield given_up(f"{parts[0][1].name}: {result}")
        else:
            yield from read_batches(executor, workers, [[part] for part in parts], task, given_up)


def name_lost(task: NamedTask, error: QuarantineError) -> NoReturn:
    """End a job whose task killed its worker, by what the task read.  Raises QuarantineError."""
    raise QuarantineError(f"{task.name}: {error}") from error


def sum_if_known(octets: Iterable[int | None]) -> int | None:
    """The sum of sizes; None where one is not known."""
    found = list(octets)
    known = [each for each in found if each is not None]
    return sum(known) if len(known) == len(found) else None


def batches(items: Sequence[_T], octets: Callable[[_T], int | None], most: int) -> Iterator[list[_T]]:
    """What one task reads: items of at most so many ``octets`` together, or one; of unknown size (None), one."""
    batch: list[_T] = []
    held = 0
    for item in items:
        known = octets(item)
        size = most if known is None else known
        if batch and held + size > most:
            yield batch
            batch, held = [], 0
        batch.append(item)
        held += size
    if batch:
        yield batch


def batches_of_parts(parts: Sequence[Numbered], most: int) -> Iterator[list[Numbered]]:
    """The same of parts; of a guessed unit it has to be known what is left behind its end: it is read alone."""
    return batches(parts, lambda each: each[1].octets if each[1].unit is None else None, most)
