"""Bounces, complaints and other reports about messages that were sent."""
