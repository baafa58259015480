"""The resolver of ``[dns]``."""

from smtpgate.config import Config
from smtpgate.dns.resolver import DnsResolver


def new_resolver(config: Config) -> DnsResolver:
    """The resolver of ``[dns]``."""
    return DnsResolver(config.dns)
