"""What tells a URL from a path, and the file systems that URLs lead to."""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib.util import find_spec
from typing import Any

OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
"""Schemes of URLs that obstore answers to."""

_TIMEOUTS = {"connect_timeout": "5s", "timeout": "60s"}  # for an answer as a whole; then it is tried again


def is_url(path: str) -> bool:
    """Whether a path names a place by URL, such as ``s3://bucket/key``."""
    return "://" in path


def client_options() -> dict[str, Any]:
    """How obstore talks to stores: time-outs, and no encryption only where the environment names such an endpoint."""
    endpoints = (
        os.environ.get(name, "") for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT")
    )
    return _TIMEOUTS | {"allow_http": any(endpoint.startswith("http://") for endpoint in endpoints)}


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
        found, path = fsspec.core.url_to_fs(url, client_options=client_options())
    else:
        found, path = fsspec.core.url_to_fs(url)
    return found, path


@cache
def _register(scheme: str) -> None:
    from obstore.fsspec import register

    register(scheme)
