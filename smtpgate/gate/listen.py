"""Listening: certificates, and the limit of open files."""

from smtpgate.config import Config
from smtpgate.gate.errors import OpenError
from smtpgate.smtp.certificate import ServerTls
from smtpgate.smtp.sockets import shortage_of_descriptors


def server_tls(config: Config) -> dict[str, ServerTls]:
    """The certificate of each listener that has TLS, loaded. Raises OpenError."""
    try:
        return {
            listener.name: ServerTls(listener)
            for listener in config.listeners
            if listener.cert_file is not None and listener.key_file is not None
        }
    except OSError as error:
        raise OpenError(str(error)) from None


def connections_wanted(config: Config) -> int:
    """The most connections of clients that all listeners together may have."""
    return sum(listener.max_connections for listener in config.listeners)


def shortage_of_files(config: Config) -> str | None:
    """A warning when the limit of open files is too low for that many connections."""
    return shortage_of_descriptors(connections_wanted(config), config.gate.reserved_descriptors)
