"""Filter expressions of pcap-filter(7): text to terms, terms to tests, tests to the rows of a packet table."""
