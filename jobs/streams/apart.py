"""What workers do for streams whose octets are read only once it is known which are needed, and where they belong.

Four rounds: segments into buckets, by their headers alone; streams of each bucket; octets of each part of the sources,
to files or to who asked for them; what these say.  Tasks can run anywhere that reaches the sources and the folders.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl
from numpy.typing import NDArray

from jobs.streams.ended import Elsewhere, Unfollowed, find_ends
from jobs.streams.tasks import SHARE, Outputs, write_bucket
from pcap2arrow.writing.target import failed, failing_as
from queries.streams.apart import ASKED, WRITTEN, Questions, Records, bucket_of_left, follow_apart, written
from queries.streams.bucket import Bucket
from queries.streams.files import opened_folder
from queries.streams.folding import UnforeseenError
from queries.streams.long import LongBucket
from queries.streams.octets import Source, Taken
from queries.streams.packets import AT, LENGTH, PART, PAYLOAD, segments
from queries.streams.partial import Partial, write_partial
from queries.streams.rules import Rules
from queries.streams.shifts import Shifts
from queries.streams.spill import ROW, Piece, Spill, in_time_order, memory, parted_again_apart, read_pieces
from queries.streams.writelog import WriteLog

_AT_ONCE = 16 << 20  # octets
_NAMES = {"stream": pl.Int64(), "name": pl.String()}


@dataclass(frozen=True, slots=True)
class Stretch:
    """Octets of a bucket's streams to be written, and octets to be looked at for the ``questions`` in a file.

    ``names`` is the file with the names of streams.
    """

    names: str
    written: Records | None
    asked: Records
    questions: str


@dataclass(frozen=True, slots=True)
class Laid:
    """Streams of a bucket without their octets: tables of them, and stretches of what these need.

    So many packets are ``left``: what is to become of their streams takes a look at their octets.
    """

    name: str
    partial: Partial
    stretches: tuple[Stretch, ...]
    left: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Octets that a stretch asked for, by its number: so many at ``offset`` of a file."""

    stretch: int
    path: str
    offset: int
    octets: int


def hold_fragments(
    packets: Iterable[pl.DataFrame],
    number: int,
    path: str,
    rules: Rules,
    columns: Sequence[str],
    spill: Spill,
) -> None:
    """Add packets that fragments make to buckets; their octets wait in a file of their own."""
    held: list[pl.Series] = []
    rows = 0
    for frame in packets:
        found = segments(frame, rules)
        held.append(found[PAYLOAD])
        place = pl.int_range(rows, rows + len(found), dtype=pl.UInt64).alias(AT)
        lengths = pl.col(PAYLOAD).bin.size().fill_null(0).cast(pl.UInt32).alias(LENGTH)
        known = found.with_columns(place, lengths, pl.lit(number, pl.UInt32).alias(PART)).select(columns)
        rows += len(found)
        if len(known):
            spill.add_apart(known)
    if held:
        with failing_as(path), Path(path).open("wb") as target:
            pl.concat(held).to_frame().write_ipc(target)


def lay_out(
    name: str,
    pieces: Sequence[Piece],
    schema: pl.Schema,
    rules: Rules,
    outputs: Outputs,
    most: int,
    sources: Mapping[int, Source],
    shifts: Shifts | None = None,
) -> list[Laid]:
    """The second round: streams of a bucket, and what has to be known of octets, which are in ``sources``.

    Of one that takes more memory than ``most``, long connections are apart, and not all of them in memory at once.
    """
    if memory(pieces) <= most:
        return [_lay_out(f"{name}-0", pieces, schema, rules, outputs, shifts)]
    path = Path(outputs.temporary, f"{name}.again")
    found = []
    for number, some in enumerate(parted_again_apart(pieces, schema, path, most, shifts)):
        given = f"{name}-{number}", some, schema, rules, outputs
        long = None
        if memory(some) > most and not outputs.index:  # which has lines for all segments
            rows = max(most // SHARE // ROW, 1)
            with suppress(UnforeseenError):
                long = _lay_out_long(*given, rows, sources)
        found.append(long or _lay_out(*given))
    path.unlink()
    return found


def _lay_out(
    name: str,
    pieces: Sequence[Piece],
    schema: pl.Schema,
    rules: Rules,
    outputs: Outputs,
    shifts: Shifts | None = None,
) -> Laid:
    bucket, questions = follow_apart(pieces, schema, rules, shifts)
    stem = str(Path(outputs.temporary, name))
    to_write = written(bucket) if outputs.folder is not None else None
    stretches = (_stretch(stem, stem, to_write, questions),)
    return Laid(name, _describe(name, bucket, outputs), stretches, len(questions.left))


def _lay_out_long(
    name: str,
    pieces: Sequence[Piece],
    schema: pl.Schema,
    rules: Rules,
    outputs: Outputs,
    rows: int,
    sources: Mapping[int, Source],
) -> Laid:
    stem = str(Path(outputs.temporary, name))
    with WriteLog(Path(f"{stem}.log")) as log:
        frames = in_time_order(pieces, lambda piece: read_pieces([piece], schema)[0], rows)
        long = LongBucket.of_frames(frames, rules, log, rows, sources)
        stretches, left = list[Stretch](), 0
        for number, (to_write, questions) in enumerate(long.stretches()):
            needed = to_write if outputs.folder is not None else None
            stretches.append(_stretch(f"{stem}-{number}", stem, needed, questions))
            left += len(questions.left)
        partial = _describe(name, long.bucket(), outputs, long.segments())
        return Laid(name, partial, tuple(stretches), left)


def _stretch(stem: str, names: str, to_write: NDArray[np.void] | None, questions: Questions) -> Stretch:
    records = None if to_write is None else Records.of(to_write, f"{stem}.written")
    path = f"{stem}.questions"
    Path(path).write_bytes(pickle.dumps(questions))
    return Stretch(f"{names}.names", records, Records.of(questions.asked, f"{stem}.asked"), path)


def _describe(
    name: str, bucket: Bucket, outputs: Outputs, segments: Iterable[pl.DataFrame] | None = None
) -> Partial:
    """Tables of a bucket's streams, their names, and files of those of which no octet is kept."""
    stem = str(Path(outputs.temporary, name))
    given = bucket.names(outputs.template) if outputs.final else None
    if outputs.folder is not None:
        numbers = outputs.numbers(name, bucket, given)
        named = pl.DataFrame({"stream": list(numbers), "name": list(numbers.values())}, _NAMES).sort("stream")
        named.write_ipc(f"{stem}.names")
        _make_empty_ones(bucket, numbers, outputs.folder)
    outputs.describe(bucket, given, stem)
    return write_partial(bucket, stem, outputs.tables, given=given, segments=segments)


def _make_empty_ones(bucket: Bucket, names: Mapping[int, str], folder: str) -> None:
    """Files of streams of which no octet is kept."""
    with opened_folder(folder) as where:
        for stream in np.flatnonzero(bucket.assembly.octets == 0).tolist():
            if stream in names:
                _write(where, folder, names[stream], ())


def hand_out(
    number: int, source: Source, stretches: Sequence[Stretch], outputs: Outputs
) -> tuple[Answer, ...]:
    """The third round: octets of a part of the sources, to files of streams, or to buckets that ask for them."""
    if not stretches:
        return ()
    asked = [each.asked.read(number, ASKED) for each in stretches]
    to_write = [
        each.written.read(number, WRITTEN) if each.written is not None else np.empty(0, WRITTEN)
        for each in stretches
    ]
    writes, looks = np.concatenate(to_write), np.concatenate(asked)
    if not len(writes) + len(looks):
        return ()
    of_look = np.repeat(np.arange(len(stretches)), [len(each) for each in asked])
    file_of, files = _files(to_write, stretches)
    at = np.concatenate([writes["at"], looks["at"]])
    ends = writes["skipped"].astype(np.int64) + writes["length"]
    answers: list[Answer] = []
    path = str(Path(outputs.temporary, f"{number}.octets"))
    with Path(path).open("wb", buffering=0) as file:
        for taken in source(at, np.concatenate([ends, looks["length"]])):
            middle = int(np.searchsorted(taken.rows, len(writes)))
            if middle:
                rows = taken.rows[:middle]
                _write_octets(taken, writes.take(rows), file_of[rows], files, str(outputs.folder))
            rows = taken.rows[middle:] - len(writes)
            answers += _answer(taken, slice(middle, None), looks["length"][rows], of_look[rows], file, path)
    return tuple(answers)


def _files(
    to_write: Sequence[NDArray[np.void]], stretches: Sequence[Stretch]
) -> tuple[NDArray[np.int64], list[str]]:
    """The number of the file that each octets to write are for, those of a file in a row; and the files."""
    number, files = [np.empty(0, np.int64)], list[str]()
    for writes, stretch in zip(to_write, stretches, strict=True):
        if len(writes):
            stream = writes["stream"]
            opens = np.concatenate([[True], stream[1:] != stream[:-1]])
            number.append(np.cumsum(opens) - 1 + len(files))
            known = pl.read_ipc(stretch.names)
            rows = known["stream"].to_numpy().searchsorted(stream[opens])
            files += known["name"].gather(rows).to_list()
    return np.concatenate(number), files


def _answer(
    taken: Taken,
    which: slice,
    length: NDArray[np.uint32],
    stretch: NDArray[np.int64],
    file: IO[bytes],
    path: str,
) -> Iterator[Answer]:
    if not len(length):
        return
    wide = length.astype(np.int64)
    octets = taken.gathered(which, np.zeros(len(wide), np.int64), wide)
    offset = file.tell()
    view = octets.data
    with failing_as(path):
        while view:
            view = view[file.write(view) :]
    ends = np.cumsum(wide)
    for number in np.unique(stretch).tolist():
        here = np.flatnonzero(stretch == number)
        begin = int(ends[here[0]] - wide[here[0]])
        yield Answer(number, path, offset + begin, int(ends[here[-1]]) - begin)


def _write_octets(
    taken: Taken, writes: NDArray[np.void], file_of: NDArray[np.int64], files: Sequence[str], folder: str
) -> None:
    """Write octets to the files of streams, those of each at once."""
    length, offset = writes["length"].astype(np.int64), writes["offset"].astype(np.int64)
    opens = np.concatenate([[True], file_of[1:] != file_of[:-1]])
    is_run = opens.copy()
    is_run[1:] |= offset[1:] != (offset + length)[:-1]
    group = np.cumsum(length) // _AT_ONCE
    marks = np.flatnonzero(opens)
    bounds = np.append(marks, len(writes))
    a = 0
    while a < len(marks):
        b = max(int(np.searchsorted(group[marks], group[marks[a]], side="right")), a + 1)
        first, stop = int(bounds[a]), int(bounds[b])
        octets = taken.gathered(
            slice(first, stop), writes["skipped"][first:stop].astype(np.int64), length[first:stop]
        ).data
        ends = np.append(0, np.cumsum(length[first:stop]))
        runs = np.flatnonzero(is_run[first:stop])
        places = ends[np.append(runs, stop - first)].tolist()
        offsets, which = offset[first:stop][runs].tolist(), np.searchsorted(runs, marks[a:b] - first).tolist()
        which.append(len(runs))
        with opened_folder(folder) as where:
            for file, (begin, end) in zip(file_of[marks[a:b]].tolist(), pairwise(which), strict=True):
                content = [(offsets[run], octets[places[run] : places[run + 1]]) for run in range(begin, end)]
                _write(where, folder, files[file], content)
        a = b


def _write(where: int, folder: str, name: str, content: Sequence[tuple[int, memoryview]]) -> None:
    """Write octets to a file of a folder that is opened."""
    try:
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666, dir_fd=where)
        try:
            for offset, octets in content:
                while octets:
                    count = os.pwrite(handle, octets, offset)
                    octets, offset = octets[count:], offset + count
        finally:
            os.close(handle)
    except OSError as error:
        raise failed(f"{folder}/{name}", error) from error


Answered = tuple[Laid, Sequence[Sequence[Answer]]]
"""A bucket's streams, and the answers for each of its stretches."""


def memory_of(answered: Answered) -> int:
    """Octets that it takes to finish them, about."""
    laid, answers = answered
    return laid.left * ROW + sum(each.octets for some in answers for each in some)


def end_together(groups: Sequence[Sequence[Answered]], rules: Rules, path: str) -> None:
    """A round for tcpflow: when the streams of all groups of buckets ended, in a new file, for :func:`finish`."""

    def left() -> Iterator[tuple[int, Unfollowed]]:
        for group, answered in enumerate(groups):
            for questions, data in _asked(answered):
                if questions.ended is not None:
                    yield group, (questions.left, questions.ended, questions.left_payload(data))

    find_ends(left(), rules, path)


def _asked(answered: Iterable[Answered]) -> Iterator[tuple[Questions, NDArray[np.uint8]]]:
    """Questions of some buckets, with the octets that they ask for."""
    for laid, answers in answered:
        for stretch, some in zip(laid.stretches, answers, strict=True):
            yield pickle.loads(Path(stretch.questions).read_bytes()), _read_answers(some)


def finish(
    name: str,
    answered: Sequence[Answered],
    rules: Rules,
    outputs: Outputs,
    elsewhere: Elsewhere | None = None,
) -> list[Partial]:
    """The last round: what octets say of streams of some buckets, and the streams of flows that were left there."""
    asked, left, found = list[Questions](), [np.empty(0, np.uint8)], list[Partial]()
    for laid, answers in answered:
        conflicts: set[int] = set()
        for questions, data in _asked([(laid, answers)]):
            conflicts.update(questions.conflicts(data).tolist())
            asked.append(questions)
            left.append(questions.left_payload(data))
        found.append(replace(laid.partial, conflicts=len(conflicts), contradictory=tuple(sorted(conflicts))))
    others = None if elsewhere is None else elsewhere.read()
    bucket = bucket_of_left(asked, np.concatenate(left), rules, others)
    return found if bucket is None else [*found, write_bucket(f"{name}-left", bucket, outputs)]


def _read_answers(answers: Sequence[Answer]) -> NDArray[np.uint8]:
    """Octets that were asked for, in the order of the parts they are from."""
    data = np.empty(sum(each.octets for each in answers), np.uint8)
    at = 0
    for each in answers:
        with Path(each.path).open("rb", buffering=0) as file:
            file.seek(each.offset)
            file.readinto(data[at : at + each.octets].data)
        at += each.octets
    return data
