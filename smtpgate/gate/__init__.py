"""The wiring: parts opened from their sections, started, reloaded, drained."""
