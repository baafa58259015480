"""The resolver of ``[dns]``, and the checks of identities that it makes."""

from smtpgate.admin.dns_checks import DnsChecks
from smtpgate.config import Config
from smtpgate.dns.resolver import DnsResolver


def new_resolver(config: Config) -> DnsResolver:
    """The resolver of ``[dns]``."""
    return DnsResolver(config.dns)


def new_dns_checks(config: Config) -> DnsChecks:
    """The checks of identities by that resolver."""
    return DnsChecks(
        new_resolver(config), config.directory.verification_label, config.feedback.host
    )
