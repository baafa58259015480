"""Access tokens: for upstreams (RFC 6749), and those by which clients log in (RFC 7519)."""

from smtpgate.oauth.grants import Grant, TokenRequest
from smtpgate.oauth.tokens import TokenAnswer, TokenSource

__all__ = ["Grant", "TokenAnswer", "TokenRequest", "TokenSource"]
