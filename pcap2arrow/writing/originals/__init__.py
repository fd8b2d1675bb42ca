"""Captures as they were, octet for octet.

:mod:`~pcap2arrow.writing.originals.original` puts one together, :mod:`~pcap2arrow.writing.originals.whole` writes
them, and :mod:`~pcap2arrow.writing.originals.verification` proves that it could.
"""
