"""Every error that the three packages raise on purpose; all descend from :class:`Pcap2ArrowError`."""

from __future__ import annotations


class Pcap2ArrowError(Exception):
    """Root of all errors raised on purpose: catch this one to catch them all."""


class SourceError(Pcap2ArrowError):
    """A capture or dataset can't be opened or read (missing, no permission, network)."""


class FormatError(Pcap2ArrowError):
    """A capture breaks its format.

    ``path`` names the capture, ``offset`` is the octet where the fault begins (of compressed input: in the
    decompressed capture), ``expected`` and ``found`` say what the format asks for and what stands there.
    """

    def __init__(self, path: str, offset: int, *, expected: str, found: str) -> None:
        super().__init__(path, offset, expected, found)
        self.path = path
        self.offset = offset
        self.expected = expected
        self.found = found

    def __reduce__(self) -> tuple[object, ...]:
        return _format_error, (type(self), self.path, self.offset, self.expected, self.found)

    def __str__(self) -> str:
        return f"{self.path}: offset {self.offset}: expected {self.expected}, found {self.found}"


def _format_error(kind: type[FormatError], path: str, offset: int, expected: str, found: str) -> FormatError:
    """Rebuild a :class:`FormatError` after its way through pickle (its arguments are keyword-only)."""
    return kind(path, offset, expected=expected, found=found)


class LimitError(Pcap2ArrowError):
    """Hostile input asked for more than a limit allows (decompression ratio, number of interfaces, …)."""


class DatasetError(Pcap2ArrowError):
    """A dataset is missing, damaged, or of a version that this release can't read."""


class ConflictError(DatasetError):
    """A change was refused because it contradicts what is live (a name taken, other options, a collision)."""


class PlanError(Pcap2ArrowError):
    """A planned conversion is damaged, or was planned by another release."""


class ExportError(Pcap2ArrowError):
    """A capture can't be written as asked (no bytes stored, a time outside the format's range, …)."""


class UsageError(Pcap2ArrowError):
    """Arguments that contradict each other or ask for something that does not exist."""


class SchedulerError(Pcap2ArrowError):
    """Tasks can't run: no way to the scheduler, or no workers."""


class QuarantineError(SchedulerError):
    """A task was given up: it kills its workers, or takes more time or memory than a task may."""


class _TextError(Pcap2ArrowError):
    """What a user wrote is wrong at one place, which the message shows.

    ``reason`` says why, ``span`` (start, end) where in ``text``, ``hint`` what may have been meant.
    """

    def __init__(
        self, reason: str, *, text: str = "", span: tuple[int, int] = (0, 0), hint: str | None = None
    ) -> None:
        super().__init__(reason, text, span, hint)
        self.reason = reason
        self.text = text
        self.span = span
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return _text_error, (type(self), self.reason, self.text, self.span, self.hint)

    def __str__(self) -> str:
        if not self.text:
            return self.reason if self.hint is None else f"{self.reason} ({self.hint})"
        line, start, length = _excerpt(self.text, self.span)
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{self.reason}\n  {line}\n  {' ' * start}{'^' * max(length, 1)}{hint}"


class FilterError(_TextError):
    """A filter expression is wrong, or means nothing on a link type; ``reason`` is what libpcap says."""


class TimeSpecError(_TextError):
    """A time or the name of a time zone is wrong; ``reason`` is what tcpslice says, where it says anything."""


def _text_error(
    kind: type[_TextError], reason: str, text: str, span: tuple[int, int], hint: str | None
) -> _TextError:
    """Rebuild a :class:`_TextError` after its way through pickle (its arguments are keyword-only)."""
    return kind(reason, text=text, span=span, hint=hint)


_EXCERPT = 76


def _excerpt(text: str, span: tuple[int, int]) -> tuple[str, int, int]:
    """At most a line's worth of the text around the span, on one line, and where the span lies in it."""
    first = max(span[0] - _EXCERPT // 2, 0) if len(text) > _EXCERPT else 0
    line = "".join(c if c.isprintable() else " " for c in text[first : first + _EXCERPT])
    start = span[0] - first
    return line, start, min(span[1] - span[0], len(line) - start)
