"""What an export writes: packets, and the records that they become.

:mod:`~pcap2arrow.writing.records.selection` says which packets, and the :mod:`~pcap2arrow.writing.records.traits` of
all captures decide on one of the :mod:`~pcap2arrow.writing.records.formats`. From there on what counts of
:mod:`~pcap2arrow.writing.records.packets` is their order and their :mod:`~pcap2arrow.writing.records.encoded` octets.
"""
