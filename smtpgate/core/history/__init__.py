"""The past: one record a message, its search, its sums and its explanation."""
