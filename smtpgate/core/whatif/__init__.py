"""Decisions without a message: simulations, trials, what a change would have done."""
