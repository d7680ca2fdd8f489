"""Models that ship with the repository."""
