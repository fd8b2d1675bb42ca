"""tcpflow as an oracle: the files that it writes of a capture."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

REPORT = "report.xml"


def files(tool: str, capture: Path, folder: Path, *words: str) -> dict[str, bytes] | None:
    """The files that tcpflow writes to a new folder, by name, without its report; None where it refuses the capture."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([tool, "-o", str(folder), "-r", str(capture), *words], capture_output=True)
    return None if done.returncode else contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder and of those in it, by their paths there, without tcpflow's report."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != REPORT
    }


def file_objects(report: Path) -> Counter[tuple[object, ...]]:
    """The file objects of a report: name, size, attributes, MD5."""
    found: Counter[tuple[object, ...]] = Counter()
    for each in ElementTree.parse(report).getroot().iter("fileobject"):
        flow = each.find("tcpflow")
        attributes = tuple(sorted(flow.attrib.items())) if flow is not None else ()
        name, size, digest = (each.findtext(tag) for tag in ("filename", "filesize", "hashdigest"))
        found[name, size, attributes, digest] += 1
    return found


def without_md5(objects: Counter[tuple[object, ...]]) -> Counter[tuple[object, ...]]:
    """File objects without MD5, which tcpflow leaves out now and then."""
    found: Counter[tuple[object, ...]] = Counter()
    for each, count in objects.items():
        found[each[:3]] += count
    return found


def counts(report: Path) -> dict[str, str | None]:
    """What a report counts in the end."""
    root = ElementTree.parse(report).getroot()
    return {name: root.findtext(name) for name in ("max_open_flows", "total_flows", "total_packets")}
