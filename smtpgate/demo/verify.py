"""DKIM verification with dkimpy, for the demonstration and as the oracle in tests."""

import logging
from collections.abc import Callable
from typing import Final

import dkim

_QUIET: Final = logging.getLogger("smtpgate.dkimpy")
_QUIET.disabled = True


def verify(
    message: bytes, txt: Callable[[str], bytes | None], *, signature_index: int = 0
) -> bool:
    """True if a DKIM signature of the message verifies, by default the first.

    ``txt`` returns the TXT record of a name, or ``None``.
    """

    def lookup(name: bytes, timeout: int = 5) -> bytes | None:
        return txt(name.decode("ascii"))

    try:
        checker = dkim.DKIM(message, logger=_QUIET)
        return bool(checker.verify(idx=signature_index, dnsfunc=lookup))
    except dkim.DKIMException:
        return False
