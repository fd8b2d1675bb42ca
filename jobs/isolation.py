"""A process of its own for tasks that may crash, eat memory, or never end."""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from jobs.limits import Limits
from jobs.own_process import give_up_first, keep_memory, start_quickly
from pcap2arrow.errors import Pcap2ArrowError, QuarantineError, SchedulerError

_T = TypeVar("_T")

ATTEMPTS = 3
"""How often a task is begun, in a new process each time, before it is given up as what kills them."""

_LOOK_EVERY = 0.25  # seconds between looks at a process
_LONGEST_START = 60.0  # seconds until a process is there, and has loaded what a task needs
_BEGUN = b""
"""What comes from a process before the answer, when a task begins."""


class Isolation:
    """Runs tasks one at a time, in a process that is started when there is need of one, and again when it dies.

    ``memory`` is what each may take, in octets.  The process ends when this one does, however that is; Ctrl-C in a
    terminal does not reach it.
    """

    def __init__(self, limits: Limits, memory: int) -> None:
        self._limits, self._memory = limits, memory
        self._process: _Process | None = None
        self._lock = threading.Lock()
        self._closed = False

    def run(self, task: Callable[[], _T]) -> _T:
        """What a task returns or raises, all of which has to be picklable, and of modules other than the main one.

        One whose process dies (killed, out of memory, crashed in native code) is run again in a new one.  Raises
        QuarantineError where it dies :data:`ATTEMPTS` times, or the task passes a limit.
        """
        answer = self.answer(pickle.dumps(task), self._limits.time(task))
        return value_of(answer)  # type: ignore[no-any-return]

    def answer(self, task: bytes, seconds: float | None) -> bytes:
        """The same of a pickled task that may take so many ``seconds``, for :func:`value_of`."""
        for attempt in range(1, ATTEMPTS + 1):
            with self._lock:
                if self._closed:
                    break
                process = self._process = self._process or _Process()
            try:
                return process.answer(task, seconds, self._memory)
            except _StoppedError as stopped:
                self._process = None
                raise QuarantineError(f"given up: its worker was stopped: {stopped}") from None
            except _DiedError as died:
                self._process = None
                if attempt == ATTEMPTS and not self._closed:
                    raise QuarantineError(f"given up: its worker died {ATTEMPTS} times: {died}") from None
        raise SchedulerError("its worker was stopped")

    def stop(self) -> None:
        """Have no task run any more: kill the process that runs one."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """End the process, once it has nothing to do."""
        if self._process is not None:
            self._process.close()
            self._process = None


class _DiedError(Exception):
    """A process has ended by itself, or somebody ended it."""


class _StoppedError(Exception):
    """A process was ended because it took more than a task may."""


class _Process:
    """A process that waits for tasks at the other end of a socket, and ends when that is closed."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            words = [sys.executable, "-c", f"import jobs.isolation as own; own.serve({theirs.fileno()})"]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            self._popen = subprocess.Popen(
                words, pass_fds=(theirs.fileno(),), env=environment, start_new_session=True
            )
        self._pipe = Connection(ours.detach())

    def answer(self, task: bytes, seconds: float | None, memory: int) -> bytes:
        try:
            self._pipe.send_bytes(task)
            begin, answer = time.monotonic() + _LONGEST_START, _BEGUN
            while answer == _BEGUN:
                while not self._pipe.poll(_LOOK_EVERY):
                    if seconds is not None and time.monotonic() - begin > seconds:
                        self._stop(f"it ran for more than {seconds:g} s")
                    if self._octets() > memory:
                        self._stop(f"it took more than {memory:,} octets of memory")
                begin, answer = min(begin, time.monotonic()), self._pipe.recv_bytes()
            return answer
        except (EOFError, ConnectionError):
            self.close()
            raise _DiedError(_how_it_ended(self._popen.returncode)) from None

    def kill(self) -> None:
        self._popen.kill()

    def close(self) -> None:
        self._pipe.close()
        self._popen.wait()

    def _stop(self, reason: str) -> None:
        self.kill()
        self.close()
        raise _StoppedError(reason)

    def _octets(self) -> int:
        """Memory that is the process' own, files that it maps left out; 0 where the system does not tell."""
        try:
            _, resident, shared, *_ = Path(f"/proc/{self._popen.pid}/statm").read_text().split()
        except (OSError, ValueError):
            return 0
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def _how_it_ended(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    return f"{name} (killed, or out of memory)" if name == "SIGKILL" else name


def serve(descriptor: int) -> None:
    """What the process does: tasks that come through a socket, until it is closed or its other end is gone."""
    start_quickly()
    give_up_first()
    keep_memory()
    stopping = os.dup(descriptor)
    threading.Thread(target=_end_with_driver, args=(stopping,), name="watch", daemon=True).start()
    pipe = Connection(descriptor)
    with suppress(EOFError, ConnectionError):
        while True:
            pipe.send_bytes(_answer(pipe.recv_bytes(), begins=lambda: pipe.send_bytes(_BEGUN)))


def _answer(task: bytes, begins: Callable[[], object]) -> bytes:
    """Whether a task came to a result, and that or its error, pickled as it was; it begins once it is loaded."""
    try:
        run = pickle.loads(task)
        begins()
        return pickle.dumps((True, run()))
    except Exception as error:
        if not isinstance(error, Pcap2ArrowError):
            error.add_note(traceback.format_exc())
        try:
            return failed(error)
        except Exception:
            return failed(RuntimeError(f"{type(error).__name__}: {error}"))


def failed(error: Exception) -> bytes:
    """The answer that has :func:`value_of` raise an error."""
    return pickle.dumps((False, error))


def value_of(answer: bytes) -> Any:
    """What a task returned.  Raises what it raised."""
    done, value = pickle.loads(answer)
    if done:
        return value
    raise value


def _end_with_driver(descriptor: int) -> None:
    """End this process when nobody is at the other end of its socket any more."""
    hung_up = select.poll()
    hung_up.register(descriptor, select.POLLRDHUP)
    hung_up.poll()
    os._exit(1)
