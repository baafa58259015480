"""Looks at the gate's own ports from outside, as a client does."""
