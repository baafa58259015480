"""Private keys in use."""
