"""Worker processes: forked, watched, talked to; and what they count together."""
