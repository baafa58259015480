"""Verifies DKIM signatures with dkimpy: for the demo, and as the oracle in tests."""

import logging
from collections.abc import Callable

import dkim

__all__ = ["verify"]


def verify(message: bytes, txt: Callable[[str], bytes | None]) -> bool:
    """Whether the first DKIM signature of the message verifies.

    ``txt`` answers for DNS: the TXT record of a name, or ``None``.
    """

    def lookup(name: bytes, timeout: int = 5) -> bytes | None:
        return txt(name.decode("ascii"))

    quiet = logging.getLogger("smtpgate.dkimpy")
    quiet.disabled = True
    try:
        return bool(dkim.DKIM(message, logger=quiet).verify(dnsfunc=lookup))
    except dkim.DKIMException:
        return False
