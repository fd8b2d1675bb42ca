"""What an export reads.

:mod:`~pcap2arrow.writing.sources.named` finds the captures of what a user names; each has a
:mod:`~pcap2arrow.writing.sources.reader`, of a dataset (:mod:`~pcap2arrow.writing.sources.stored`) or where it is
(:mod:`~pcap2arrow.writing.sources.in_place`), of which :mod:`~pcap2arrow.writing.sources.slices` are taken in time.
With a :mod:`~pcap2arrow.writing.sources.spool` other processes read.
"""
