"""Suppression lists, and files with them."""
