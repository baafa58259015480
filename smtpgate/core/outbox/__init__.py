"""Sending events, as SES publishes them, and the tasks of their delivery."""
