"""The mechanisms of our login at a server (RFC 4954), by what they need."""

from typing import Final, Literal

Mechanism = Literal["PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"]
# The better one first. PLAIN takes one round trip, LOGIN three.
WITH_PASSWORD: Final[tuple[Mechanism, ...]] = ("PLAIN", "LOGIN")
WITH_TOKEN: Final[tuple[Mechanism, ...]] = ("OAUTHBEARER", "XOAUTH2")
