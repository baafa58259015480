"""The journal: a row for each submission and each refused login, and what was sent by whom."""
