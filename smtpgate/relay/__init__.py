"""The relay: sockets and pools around the upstream session of the core, and routes."""

from smtpgate.relay.pool import PooledUpstream
from smtpgate.relay.routed import RoutedUpstream
from smtpgate.relay.watched import WatchedUpstream

__all__ = ["PooledUpstream", "RoutedUpstream", "WatchedUpstream"]
