"""Captures to packet tables: scan (where records are), plan (prove the cuts), write (one unit at a time)."""
