"""The journal: a row for each submission and refused login, and sums of usage."""
