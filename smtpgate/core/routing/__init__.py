"""The choice of an upstream: which a message may go to, in which order, and which are of use.

Reads bottom-up: an upstream in a group and the order of a group (``group``), routes and what
they match (``route``), the table of all routes (``routes``), the circuit breaker of an upstream
(``breaker``), and tries of upstreams that failed (``failed_try``).
"""
