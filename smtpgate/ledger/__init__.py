"""Where sending limits are counted."""
