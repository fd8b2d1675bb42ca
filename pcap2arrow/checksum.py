"""The CRC-32 of zlib, by ISA-L where it is installed, which takes a third of the time."""

try:
    from isal.isal_zlib import crc32
except ImportError:  # not made for this kind of processor
    from zlib import crc32

__all__ = ["crc32"]
