"""Calls of webhooks: events to the HTTPS subscriptions of topics."""
