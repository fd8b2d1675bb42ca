"""What Wireshark says of captures: its dissectors, asked through one sharkd for many captures."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NO_STREAM = "NONE"
_MORE = 5  # numbers without a stream that are asked for behind the last conversation

Side = tuple[str, int, bytes]
"""Address, port, and what was sent from there."""


class Sharkd:
    """A sharkd that runs, with at most one capture loaded."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._requests = 0

    def load(self, capture: Path) -> None:
        """Load a capture; of one that is cut there is no answer, but it is loaded."""
        self._send("load", file=str(capture))

    def ask(self, method: str, **parameters: str) -> dict[str, Any]:
        """The result of a request."""
        number = self._send(method, **parameters)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer: dict[str, Any] = json.loads(line)
            if answer["id"] == number:
                result: dict[str, Any] = answer.get("result", {})
                return result
        raise AssertionError("sharkd ended")

    def _send(self, method: str, **parameters: str) -> int:
        assert self._process.stdin is not None
        self._requests += 1
        request = {"jsonrpc": "2.0", "id": self._requests, "method": method, "params": parameters}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._requests

    def follow(self, capture: Path, most: int) -> list[tuple[Side, Side]] | None:
        """Both sides of each TCP stream of a capture, as "follow" has them; None where there are more than ``most``."""
        self.load(capture)
        conversations = self.ask("tap", tap0="conv:TCP").get("taps", [{}])[0].get("convs", [])
        if len(conversations) > most:
            return None
        found: list[tuple[Side, Side]] = []
        number = missing = 0
        while number < len(conversations) or missing < _MORE:
            said = self.ask("follow", follow="TCP", filter=f"tcp.stream=={number}")
            if said.get("chost", _NO_STREAM) == _NO_STREAM:
                missing += 1
            else:
                missing = 0
                found.append(_sides(said))
            number += 1
        return found


def _sides(said: dict[str, Any]) -> tuple[Side, Side]:
    octets = [b"", b""]
    for payload in said.get("payloads", []):
        octets[payload.get("s", 0)] += base64.b64decode(payload["d"])
    client, server = (said["chost"], int(said["cport"])), (said["shost"], int(said["sport"]))
    return (*client, octets[0]), (*server, octets[1])


@contextmanager
def sharkd(program: str) -> Iterator[Sharkd]:
    """A sharkd for the ``with`` block."""
    with subprocess.Popen(
        [program, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        yield Sharkd(process)
        assert process.stdin is not None
        process.stdin.close()
