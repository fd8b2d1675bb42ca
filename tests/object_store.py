"""An object store for tests: moto's S3 on loopback, with buckets and what is in them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

SECRET = "canary-4f1c"


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """A server's address and credentials, as clients find them in the environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = os.environ | {"PYTHONWARNINGS": "ignore"}
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=quiet)
    try:
        _wait_for(port)
        yield found
    finally:
        server.kill()
        server.wait()


def _wait_for(port: int) -> None:
    for _ in range(300):
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.1)
    raise TimeoutError("moto does not answer")


def make_bucket(name: str, environment: Mapping[str, str]) -> str:
    """The URL of a new bucket."""
    make = urllib.request.Request(f"{environment['AWS_ENDPOINT_URL']}/{name}", method="PUT")
    with urllib.request.urlopen(make) as answer:
        assert answer.status == 200
    return f"s3://{name}"


def store_of(bucket: str, environment: Mapping[str, str]) -> Any:
    """The store of obstore's that a bucket is."""
    import obstore

    config = {name.lower(): value for name, value in environment.items()}
    options: Any = {"allow_http": True}
    return obstore.store.S3Store(bucket.removeprefix("s3://"), config=config, client_options=options)


def objects_in(bucket: str, prefix: str, environment: Mapping[str, str]) -> dict[str, bytes]:
    """Octets of all objects below a prefix, by what comes after it."""
    import obstore

    store = store_of(bucket, environment)
    paths = [meta["path"] for batch in obstore.list(store, prefix=prefix) for meta in batch]
    return {path.removeprefix(f"{prefix}/"): bytes(obstore.get(store, path).bytes()) for path in paths}
