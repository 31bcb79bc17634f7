"""Data sets: reading, splitting, augmenting, and the cache of downloads."""
