"""Revisions of the directory as a later version has them, for tests of upgrades."""
