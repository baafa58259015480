"""TLS handshakes: what one costs, and the reasons for failed ones."""

import ssl
from typing import Final

from smtpgate.core.events import HandshakeProblem

# With a key of RSA-2048; the event loop does it when the client's first octets come.
HANDSHAKE_S: Final = 0.001

# OpenSSL's reasons, by a part of their names.
_PROBLEMS: Final[tuple[tuple[str, HandshakeProblem], ...]] = (
    ("HTTP_REQUEST", "no-tls"),
    ("WRONG_VERSION_NUMBER", "no-tls"),
    ("UNKNOWN_PROTOCOL", "no-tls"),
    ("PACKET_LENGTH_TOO_LONG", "no-tls"),
    ("RECORD_LAYER_FAILURE", "no-tls"),
    ("PROTOCOL_VERSION", "old-version"),
    ("UNSUPPORTED_PROTOCOL", "old-version"),
    ("VERSION_TOO_LOW", "old-version"),
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "no-client-certificate"),
    ("CERTIFICATE_VERIFY_FAILED", "no-client-certificate"),
    ("UNKNOWN_CA", "certificate-refused"),
    ("CERTIFICATE", "certificate-refused"),
    ("SHARED_CIPHER", "no-cipher"),
    ("NO_SUITABLE", "no-cipher"),
    ("HANDSHAKE_FAILURE", "no-cipher"),
    ("INSUFFICIENT_SECURITY", "no-cipher"),
    ("UNEXPECTED_EOF", "hung-up"),
)


def handshake_problem(error: Exception | None) -> HandshakeProblem:
    """The reason for which TLS failed."""
    if error is None or isinstance(error, ConnectionError | EOFError):
        return "hung-up"
    if isinstance(error, TimeoutError):
        return "too-slow"
    reason = getattr(error, "reason", None) if isinstance(error, ssl.SSLError) else None
    for part, problem in _PROBLEMS:
        if part in (reason or ""):
            return problem
    return "other"
