"""What tells a URL from a path."""

from __future__ import annotations


def is_url(path: str) -> bool:
    """Whether a path names a place by URL, such as ``s3://bucket/key``."""
    return "://" in path
