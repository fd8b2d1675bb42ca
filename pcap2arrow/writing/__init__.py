"""Packets of captures and datasets, written out as captures.

An export takes these steps, and :mod:`~pcap2arrow.writing.api` one after the other:

- :mod:`~pcap2arrow.writing.sources` are what is read: captures of datasets or where they are, stretches of them.
- :mod:`~pcap2arrow.writing.records` are what is written: which packets, in which format, and the octets of each.
- :mod:`~pcap2arrow.writing.merging` puts records of several captures in one order, and leaves out those that repeat.
- A :mod:`~pcap2arrow.writing.target` takes them, or one after the other does (:mod:`~pcap2arrow.writing.split`).

Captures as they were (:mod:`~pcap2arrow.writing.originals`) do without, and :mod:`~pcap2arrow.writing.copy` copies
captures as tcpdump does.
"""
