"""Decisions without a message: simulation, trial, delegates, and the impact of a change."""
