"""tcpflow's command line, read by its rules and done with streams."""
