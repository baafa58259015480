"""Keeps what the directory says of identities true: asks the DNS, ends the stages of keys."""
