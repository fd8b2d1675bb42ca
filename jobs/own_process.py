"""Settings of processes that do nothing but our jobs: the command, and its workers."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import NoReturn

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h
_KEPT = 1 << 30
_OBJECTS_BETWEEN_COLLECTIONS = 200_000
"""Python's 700 cost a quarter of the time that imports take."""

_POLARS_ALLOCATOR = "_RJEM_MALLOC_CONF", "dirty_decay_ms:2000,muzzy_decay_ms:0,narenas:1,oversize_threshold:0"
"""Keep memory that was let go of for what is read next, by any thread, octets of a whole file as well (jemalloc(3)).

As it is set, Polars gives it back at once, and large pieces always: the kernel clears five times as much memory.
"""


def start_quickly() -> None:
    """Collect garbage seldom, let Polars keep memory, have NumPy start no threads for linear algebra, and hide pandas.

    Arrow loads pandas wherever it is installed, only to ask whether values are of its types: half a start more.
    What users may ask of frames of Polars is not loaded, either.  To be called before any of them is loaded; what the
    user has set counts.
    """
    import queries  # noqa: F401  # its namespace comes with Polars, unless that is loaded later

    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    os.environ.setdefault(*_POLARS_ALLOCATOR)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if _HIDDEN not in sys.meta_path:
        sys.meta_path.insert(0, _HIDDEN)


def show_pandas() -> None:
    """Let functions of users import pandas, and Arrow for their sake."""
    if _HIDDEN in sys.meta_path:
        sys.meta_path.remove(_HIDDEN)


class _Hidden:
    """Finds pandas, and does not load it: whoever can do without goes on without."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name == "pandas" else None  # type: ignore[arg-type]  # a loader by its methods

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> NoReturn:
        raise ModuleNotFoundError(f"{module.__name__} is hidden", name=module.__name__)


_HIDDEN = _Hidden()


def keep_memory() -> None:
    """Have this process use memory that it freed again, instead of returning it to the system piece by piece.

    Fresh memory costs as much as the octets in it (the kernel clears it), and a conversion frees and takes several
    times the size of its capture.  Without effect where the C library has no ``mallopt``.
    """
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for setting, value in ((_MMAP_THRESHOLD, _KEPT), (_TRIM_THRESHOLD, _KEPT), (_ARENA_MAX, 1)):
        mallopt(setting, value)
    if "pyarrow" in sys.modules:
        import pyarrow as pa

        pa.set_memory_pool(pa.system_memory_pool())
    else:  # which takes longer to load than workers take to be started
        os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"


def give_up_first() -> None:
    """Where memory runs out, have the system end this process before others: it can be started again."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
