"""Programs on octets: many frames at once, by NumPy."""
