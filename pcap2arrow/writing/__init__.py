"""Packet tables back to captures.

An export takes these steps, and :mod:`~pcap2arrow.writing.api` one after the other.

- What is read: :mod:`~pcap2arrow.writing.sources` finds captures; each has a :mod:`~pcap2arrow.writing.reader`, of a
  dataset (:mod:`~pcap2arrow.writing.stored`) or where it is (:mod:`~pcap2arrow.writing.in_place`), of which
  :mod:`~pcap2arrow.writing.slices` are taken in time, and :mod:`~pcap2arrow.writing.selection` says which packets.
- What is written: :mod:`~pcap2arrow.writing.traits` of all captures decide on one of the
  :mod:`~pcap2arrow.writing.formats`.
- Records: :mod:`~pcap2arrow.writing.direct` makes :mod:`~pcap2arrow.writing.encoded` ones, which are then put in order
  (:mod:`~pcap2arrow.writing.arrangement`, :mod:`~pcap2arrow.writing.merge`) while others wait
  (:mod:`~pcap2arrow.writing.waiting`), :mod:`~pcap2arrow.writing.duplicates` are left out, and a
  :mod:`~pcap2arrow.writing.target`, or several (:mod:`~pcap2arrow.writing.split`), are written.

Captures as they were do without: :mod:`~pcap2arrow.writing.whole` writes them, and
:mod:`~pcap2arrow.writing.verification` proves that it could.  :mod:`~pcap2arrow.writing.copy` is for tcpdump's copies,
and with a :mod:`~pcap2arrow.writing.spool` other processes read.
"""
