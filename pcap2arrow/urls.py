"""What tells a URL from a path, and the file systems that URLs lead to."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from functools import cache
from importlib.util import find_spec
from typing import Any

from pcap2arrow.errors import UsageError

OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
"""Schemes of URLs that obstore answers to."""

_WITH_BUCKETS = ("s3", "s3a", "gs", "gcs")

TIMEOUT = "PCAP2ARROW_STORE_TIMEOUT"
"""Environment variable: seconds that an object store has for an answer as a whole, until it is asked again."""

_TIMEOUT_SECONDS, _CONNECT_SECONDS = 60, 5
_RETRIES = 8
_LONGEST_PAUSE = timedelta(seconds=5)
_GIVEN_UP_AFTER = timedelta(minutes=3)


def is_url(path: str) -> bool:
    """Whether a path names a place by URL, such as ``s3://bucket/key``."""
    return "://" in path


def names_object(path: str) -> bool:
    """Whether that is the URL of an object whose bucket is the URL's host, in a store that obstore answers to."""
    return path.partition("://")[0] in _WITH_BUCKETS and is_url(path) and find_spec("obstore") is not None


def bucket_and_key(url: str) -> tuple[str, str]:
    """The URL of an object's bucket, and what the object is called there."""
    scheme, _, path = url.partition("://")
    bucket, _, key = path.partition("/")
    return f"{scheme}://{bucket}", key


def client_options() -> dict[str, Any]:
    """How obstore talks to stores: time-outs, and no encryption only where the environment names such an endpoint."""
    endpoints = (
        os.environ.get(name, "") for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT")
    )
    seconds = _timeout()
    return {
        "connect_timeout": f"{min(seconds, _CONNECT_SECONDS):g}s",
        "timeout": f"{seconds:g}s",
        "allow_http": any(endpoint.startswith("http://") for endpoint in endpoints),
    }


def retry_config() -> dict[str, Any]:
    """How often obstore asks again: after errors of the server (5xx), lost connections, time-outs of reading."""
    return {
        "max_retries": _RETRIES,
        "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": _LONGEST_PAUSE, "base": 2},
        "retry_timeout": _GIVEN_UP_AFTER,
    }


def polars_options(path: str) -> dict[str, Any] | None:
    """The same for what Polars reads itself: its ``storage_options`` for a URL, None for a path."""
    if not is_url(path):
        return None
    client = client_options()
    kept = {name: client[name] for name in ("connect_timeout", "timeout")}
    return kept | {"allow_http": str(client["allow_http"]).lower(), "max_retries": _RETRIES}


def _timeout() -> float:
    try:
        seconds = float(os.environ.get(TIMEOUT, _TIMEOUT_SECONDS))
    except ValueError:
        seconds = 0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"{TIMEOUT}={os.environ[TIMEOUT]}: expected a number of seconds")
    return seconds


def remote_errors() -> tuple[type[Exception], ...]:
    """What reading from a URL raises."""
    errors: tuple[type[Exception], ...] = (OSError, ValueError, ImportError)
    if "obstore" not in sys.modules:
        return errors
    from obstore.exceptions import BaseError

    return (*errors, BaseError)


def reason(error: Exception) -> str:
    """What went wrong, in one line: more of it is for debugging."""
    told = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return told.partition("\n")[0]


def filesystem(url: str) -> tuple[Any, str]:
    """The file system of fsspec's that a URL leads to, and the path there.

    Object stores are those of obstore, where that is installed, as datasets have them: with the same credentials, from
    the environment.  Raises ValueError or ImportError where nothing answers to the URL.
    """
    import fsspec

    scheme = url.partition("://")[0]
    if scheme in OBJECT_STORES and find_spec("obstore"):
        _register(scheme)
        found, path = fsspec.core.url_to_fs(url, client_options=client_options(), retry_config=retry_config())
    else:
        found, path = fsspec.core.url_to_fs(url)
    return found, path


@cache
def _register(scheme: str) -> None:
    from obstore.fsspec import register

    register(scheme)
