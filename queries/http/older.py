"""Responses as tcpflow 1.6.1 reads them: its parser is an older one that takes much for a head.

What that one reads otherwise than llhttp was found by trying: heads are put into words that llhttp reads the same way.
"""

from __future__ import annotations

import re

HEAD_END = re.compile(rb"\n(?:\n|\r[\s\S])")
"""The end of a head: an empty line, of which any octet may be the last."""

CHUNK_LINE = re.compile(rb"(?=[0-9A-Fa-f])0{0,64}+([0-9A-Fa-f]{0,15}+)(?:[ ;][^\r]{0,4096})?\r[\s\S]")
CHUNK_END = re.compile(rb"[\s\S]{2}")

_STATUS_LINE = re.compile(rb"(HTTP/\d\.\d) +0*(\d{1,3})(?=[ \r\n])([^\r\n]*)(?:\r?\n|\r[\s\S])")
_FOLD = re.compile(rb"(?:\r?\n[ \t]+)+")
_LEADING_FOLDS = re.compile(rb"(:[ \t]*)(?:\r?\n[ \t]+)+")
_FIELD = re.compile(rb"([^:\r\n]*):([^\n]*)")
_NOT_IN_VALUES = re.compile(rb"\r|[^ \t][ \t]*[\x00-\x08\x0b-\x1f\x7f]")
_FRAMING = (b"content-length", b"transfer-encoding")


def readable_head(head: bytes) -> bytes | None:
    """A head as llhttp reads it, None for what is none.

    A status may have fewer digits than three, or zeros before them, and its line may end with CR alone, which takes
    one more octet with it.  Names of fields may have blanks; where blanks come before the colon they do not count in
    names that say how long the body is.  What is said in several lines does not count, but for a length.  In values
    the first character may be one of control, though not CR.
    """
    line, end = _STATUS_LINE.match(head), HEAD_END.search(head)
    if line is None or end is None:
        return None
    version, status, reason = line.groups()
    fields = _LEADING_FOLDS.sub(rb"\1", head[line.end() : end.start() + 1])
    written = [b"%s %03d%s" % (version, int(status), reason)]
    for field in re.split(rb"\r?\n(?![ \t])", fields):
        if not field:
            continue
        first, *folded = _FOLD.split(field)
        found = _FIELD.match(first)
        if found is None or any(map(_NOT_IN_VALUES.search, (found[2], *folded))):
            return None
        written.append(b"%s:%s" % (_name(found[1], folded), b" ".join([found[2], *folded])))
    return b"\r\n".join([*written, b"", b""])


def _name(name: bytes, folded: list[bytes]) -> bytes:
    without = name.rstrip(b" ")
    if folded and without.lower() != b"content-length":
        return b"Folded"
    return without if without.lower() in _FRAMING else name.replace(b" ", b"_")
