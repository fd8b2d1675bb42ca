"""Records of several captures in one order.

:mod:`~pcap2arrow.writing.merging.arrangement` says which order, :mod:`~pcap2arrow.writing.merging.direct` makes the
records of each capture, and :mod:`~pcap2arrow.writing.merging.merge` puts them in order, while others wait
(:mod:`~pcap2arrow.writing.merging.waiting`); :mod:`~pcap2arrow.writing.merging.duplicates` are left out.
"""
