"""Packet tables back to captures."""
