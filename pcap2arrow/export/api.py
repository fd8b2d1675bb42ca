"""``pcap2arrow.export``, ``verify`` and ``write_capture``: packet tables back to captures."""
