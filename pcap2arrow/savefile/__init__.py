"""Reading captures: sources of octets, the two formats, and the walk from record to record."""
