"""The relay: sockets and a pool around the upstream session of the core."""

from smtpgate.relay.pool import PooledUpstream

__all__ = ["PooledUpstream"]
