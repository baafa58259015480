"""Access tokens for upstreams (RFC 6749): fetched ahead of time, kept in memory only."""

from smtpgate.oauth.grants import Grant, TokenRequest
from smtpgate.oauth.tokens import TokenAnswer, TokenSource

__all__ = ["Grant", "TokenAnswer", "TokenRequest", "TokenSource"]
