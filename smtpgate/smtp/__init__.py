"""The SMTP door: listeners, sessions and authentication; the only place that knows aiosmtpd."""
