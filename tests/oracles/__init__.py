"""Slow, plain readings of the same formats, and the real tools: what the product is compared with."""
