"""The dataset on disk: which captures are in it, which files hold them, and how that changes.

A dataset is a folder or a prefix in an object store::

    packets/…, captures/…, blocks/…    Parquet files, under names that derive from their content
    _manifest/<20 digits>.json         the log: an entry per commit, created only if absent
    _manifest/checkpoints/…            what the entries up to a version add up to

Readers take their files from the log (:meth:`Snapshot.files`), never from a listing.  A writer puts data
files in place first (:meth:`Dataset.open_output`), then commits captures (:meth:`Dataset.commit` with
:func:`plan_change`): each becomes visible whole or not at all, and once, however often it is tried and by how
many.
"""

from pcap2arrow.dataset.change import plan_change, plan_removal
from pcap2arrow.dataset.log import Dataset, create_dataset, open_dataset, remove
from pcap2arrow.dataset.snapshot import Change, DataFile, LiveCapture, Snapshot, Source, Table
from pcap2arrow.dataset.store import OutputFile, Store
from pcap2arrow.dataset.vacuum import VacuumReport, vacuum

__all__ = [
    "Change",
    "DataFile",
    "Dataset",
    "LiveCapture",
    "OutputFile",
    "Snapshot",
    "Source",
    "Store",
    "Table",
    "VacuumReport",
    "create_dataset",
    "open_dataset",
    "plan_change",
    "plan_removal",
    "remove",
    "vacuum",
]
