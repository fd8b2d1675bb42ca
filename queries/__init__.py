"""Tables of packets to tables and text: filters, slices, merges and streams."""
