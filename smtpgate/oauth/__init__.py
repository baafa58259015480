"""Access tokens: for upstreams (RFC 6749), and those by which clients log in (RFC 7519)."""

from smtpgate.oauth.grants import Grant, TokenRequest
from smtpgate.oauth.shared import SharedTokens
from smtpgate.oauth.tokens import SharedToken, TokenAnswer, TokenSource

__all__ = ["Grant", "SharedToken", "SharedTokens", "TokenAnswer", "TokenRequest", "TokenSource"]
