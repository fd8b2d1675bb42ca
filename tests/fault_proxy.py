"""A proxy in front of an object store that fails as networks and servers do: by chance, from a seed.

It speaks HTTP over real sockets, so that clients meet what they would meet: answers that do not come, that end early,
that say 503, or 500 although the store has done what it was asked.
"""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RATES: Mapping[str, float] = {
    "503": 0.10,
    "500 before": 0.03,
    "500 after": 0.03,
    "hang": 0.01,
    "reset before": 0.01,
    "reset after": 0.01,
    "cut": 0.03,
}
"""How often what happens: of all requests."""

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}
_CONDITIONS = {"if-match", "if-none-match"}


@dataclass(frozen=True, slots=True)
class Request:
    """One that was passed on, and the octets of its answer's body."""

    method: str
    path: str
    octets: int
    is_range: bool
    status: int


@dataclass(slots=True)
class FaultProxy:
    """Its ``url``, what came through, and how often it did what.

    Where it is ``unconditional``, the store behind it is one that takes every put for an order to overwrite.  Otherwise
    conditional puts pass one at a time: moto looks first and puts then, which lets two of a busy moment both succeed.
    """

    url: str
    rates: Mapping[str, float]
    chance: random.Random
    hang_seconds: float
    unconditional: bool = False
    requests: list[Request] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    total: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    creating: threading.Lock = field(default_factory=threading.Lock)

    def fault(self) -> str | None:
        """What becomes of the next request; None: all is well."""
        with self.lock:
            self.total += 1
            left = self.chance.random()
            for name, rate in self.rates.items():
                left -= rate
                if left < 0:
                    self.faults[name] += 1
                    return name
        return None


@contextmanager
def fault_proxy(
    upstream: str,
    *,
    seed: int = 0,
    rates: Mapping[str, float] = RATES,
    hang_seconds: float = 5,
    unconditional: bool = False,
) -> Iterator[FaultProxy]:
    """A proxy in front of the server at ``upstream`` (``host:port``), for the length of a ``with`` block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def handle_one_request(self) -> None:
            with suppress(ConnectionError, TimeoutError):
                super().handle_one_request()
                return
            self.close_connection = True

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = proxy.fault()
            if fault == "hang":
                stopped.wait(proxy.hang_seconds)
            if fault in ("hang", "reset before"):
                self._reset()
            elif fault in ("503", "500 before"):
                self._refuse(int(fault[:3]))
            else:
                with proxy.creating if "If-None-Match" in self.headers else nullcontext():
                    status, headers, octets = self._pass_on(body)
                if fault == "500 after":
                    self._refuse(500)
                elif fault == "reset after":
                    self._reset()
                else:
                    self._reply(status, headers, octets, cut=fault == "cut")

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815

        def _pass_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = http.client.HTTPConnection(upstream, timeout=60)
            try:
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() not in _HOP_BY_HOP | (_CONDITIONS if proxy.unconditional else set()):
                        connection.putheader(name, value)
                connection.endheaders(body or None)
                found = connection.getresponse()
                octets = found.read()
            finally:
                connection.close()
            is_range = "Range" in self.headers
            with proxy.lock:
                proxy.requests.append(
                    Request(self.command, self.path.partition("?")[0], len(octets), is_range, found.status)
                )
            return found.status, found.getheaders(), octets

        def _reply(self, status: int, headers: list[tuple[str, str]], octets: bytes, *, cut: bool) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in _HOP_BY_HOP and (
                    name.lower() != "content-length" or self.command == "HEAD"
                ):
                    self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(octets)))
            self.end_headers()
            if self.command == "HEAD":
                return
            self.wfile.write(octets[: len(octets) // 2] if cut else octets)
            if cut and octets:
                self.close_connection = True

        def _refuse(self, status: int) -> None:
            self.send_response_only(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _reset(self) -> None:
            """Close the connection with RST."""
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: object, client_address: object) -> None:
            pass

    stopped = threading.Event()
    with Server(("127.0.0.1", 0), Handler) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        proxy = FaultProxy(url, rates, random.Random(seed), hang_seconds, unconditional)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            stopped.set()
            server.shutdown()
            thread.join()
