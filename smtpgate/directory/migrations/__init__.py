"""The migrations of the directory's tables."""
