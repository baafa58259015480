"""The past: one record a message, how it is searched, summed and explained."""
