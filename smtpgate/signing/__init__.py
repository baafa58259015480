"""The only door to dkimpy, which verifies what the gate signs."""
