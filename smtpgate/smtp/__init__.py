"""The SMTP front end: listeners, sessions and authentication."""
