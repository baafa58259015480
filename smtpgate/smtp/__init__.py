"""The SMTP door: listeners, sessions and authentication."""
