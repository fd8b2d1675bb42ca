"""What a worker of a cluster does for a task of ours."""

from __future__ import annotations

import asyncio
import atexit
from collections import defaultdict
from dataclasses import dataclass
from functools import partial

from distributed import Worker, get_worker

from jobs.isolation import Isolation, failed
from jobs.limits import Limits
from pcap2arrow.errors import Pcap2ArrowError

_MOST_TOLD = 32 << 10
"""Octets of an answer that is told: schedulers keep the last thousand."""

_idle: defaultdict[tuple[Limits, int], list[Isolation]] = defaultdict(list)


@dataclass(frozen=True, slots=True)
class Order:
    """A pickled task that may take so many ``seconds`` and ``limits``; its answer is told as an event of ``topic``."""

    key: str
    task: bytes
    seconds: float | None
    limits: Limits
    topic: str

    def __dask_tokenize__(self) -> str:
        """What Dask tells orders apart by, without a look at all that is in them."""
        return self.key


async def run_task(order: Order) -> bytes | None:
    """Run a task in a process beside that of the worker, which it can't take down; the worker keeps the process.

    Its answer (see :func:`~jobs.isolation.value_of`) is told the scheduler with the same message that tells that the
    task has ended: a worker that is lost later takes nothing finished with it, and nobody has to fetch the result.
    Only of a large one, the answer is the result of the task.
    """
    worker = get_worker()
    run = partial(_answer, order, _room(worker, order.limits))
    answer = await asyncio.get_running_loop().run_in_executor(worker.executors["default"], run)
    if len(answer) > _MOST_TOLD:
        return answer
    worker.log_event(order.topic, [order.key, answer])
    return None


def _answer(order: Order, memory: int) -> bytes:
    idle = _idle[order.limits, memory]
    try:
        isolation = idle.pop()
    except IndexError:
        isolation = Isolation(order.limits, memory)
        atexit.register(isolation.close)
    try:
        return isolation.answer(order.task, order.seconds)
    except Pcap2ArrowError as error:
        return failed(error)
    finally:
        idle.append(isolation)


def _room(worker: Worker, limits: Limits) -> int:
    """Octets of memory that a task may take: of what the worker may have, an even share for each thread."""
    share: int | None = worker.memory_manager.memory_limit
    if limits.memory is not None or share is None:
        return limits.room(worker.state.nthreads)
    return share // int(worker.state.nthreads)
