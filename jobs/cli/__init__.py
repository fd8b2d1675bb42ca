"""The command ``pcap2arrow``."""

from __future__ import annotations

import atexit
import io
import os
import signal
import sys
from types import FrameType

import click

from jobs.cli.group import BROKEN_PIPE, commands
from jobs.own_process import start_quickly

FAILED = 1
WRONG_COMMAND = 2
INTERRUPTED = 130
TERMINATED = 143


def main() -> None:
    """Run the command line and end the process.

    Exit codes: 0 all done; 1 something in the input failed, everything else is done; 2 the command line is
    wrong, and nothing was done; 130 interrupted; 141 nobody reads the output any more; 143 told to end by SIGTERM.
    """
    start_quickly()
    signal.signal(signal.SIGTERM, _terminate)
    codes: list[int] = []
    atexit.register(_end, codes)  # the first to be registered, so the last to be called
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    codes.append(_run())
    if codes[0] in (INTERRUPTED, TERMINATED):
        _end(codes)  # not waiting for threads that still run: nothing of theirs is visible
    sys.exit(codes[0])


def _end(codes: list[int]) -> None:
    """End the process with that exit code, without taking the interpreter apart.

    That would take as long as a tenth of a start, and threads of obstore may still call into it.
    """
    if codes:
        sys.stderr.flush()
        os._exit(codes[0])


class _TerminatedError(KeyboardInterrupt):
    """The process was told to end: like Ctrl-C, so that temporary files are removed."""


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second time it ends at once
    raise _TerminatedError


def _run() -> int:
    debug = os.environ.get("PCAP2ARROW_DEBUG") == "1"
    if debug:
        import logging

        logging.basicConfig(level=logging.DEBUG)
    try:
        code: int | None = commands.main(prog_name="pcap2arrow", standalone_mode=False)
        sys.stdout.flush()
        return code or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        is_told = isinstance(error, _TerminatedError) or isinstance(error.__context__, _TerminatedError)
        print("pcap2arrow:", "terminated" if is_told else "interrupted", file=sys.stderr, flush=True)
        return TERMINATED if is_told else INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        if debug:
            raise
        return _explain(error)


def _explain(error: Exception) -> int:
    """Say on standard error what went wrong; the result is the exit code."""
    from jobs.cli.output import complain, complain_of_text
    from pcap2arrow.errors import FilterError, Pcap2ArrowError, TimeSpecError, UsageError

    if isinstance(error, FilterError | TimeSpecError):
        complain_of_text(error)
        return WRONG_COMMAND
    if isinstance(error, Pcap2ArrowError):
        complain(str(error))
        return WRONG_COMMAND if isinstance(error, UsageError) else FAILED
    complain(f"internal error: {type(error).__name__}: {error} (PCAP2ARROW_DEBUG=1 shows where)")
    return FAILED
