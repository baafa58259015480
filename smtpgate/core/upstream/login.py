"""The login at a server as a session begins it: whether there is one, by which mechanism, and
the commands of it.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

from smtpgate.core.sasl_mechanism import WITH_PASSWORD, WITH_TOKEN, Mechanism
from smtpgate.core.secret import Secret
from smtpgate.core.upstream.delivery import UpstreamUnavailableError
from smtpgate.core.upstream.sasl import (
    auth_commands,
    chosen,
    plain_response,
    token_response,
)
from smtpgate.core.upstream.steps import Due, Terms


class UpstreamLogin(NamedTuple):
    """The first command of a login, and what its reply answers.

    ``response`` is for the challenge after it, where the command does not have it.
    """

    mechanism: Mechanism
    due: Due
    command: bytes
    response: bytes = b""


def login_at(
    terms: Terms, offered: Sequence[str], *, is_verified: bool
) -> UpstreamLogin | None:
    """The login by these terms at a server with these mechanisms; ``None`` if there is none.

    ``is_verified`` is true under TLS with a verified certificate. Raises
    UpstreamUnavailableError.
    """
    if terms.username is None or (terms.password is None and terms.token is None):
        return None
    # RFC 4954 §9; and TLS that verifies nothing leads to any machine that answers.
    if not (is_verified or terms.is_loopback):
        problem = "credentials are not sent without TLS that verifies the certificate"
        raise UpstreamUnavailableError(terms.named(problem), "login")
    fitting = WITH_PASSWORD if terms.token is None else WITH_TOKEN
    mechanism = chosen(fitting, terms.auth, offered)
    if mechanism is None:
        wanted = " or ".join(f"AUTH {one}" for one in fitting if terms.auth in (None, one))
        raise UpstreamUnavailableError(terms.named(f"it does not offer {wanted}"), "login")
    return _begun(terms, mechanism, terms.username)


def _begun(terms: Terms, mechanism: Mechanism, username: str) -> UpstreamLogin:
    if mechanism == "LOGIN":
        return UpstreamLogin(mechanism, "AUTH LOGIN", b"AUTH LOGIN\r\n")
    if terms.token is not None:
        response = token_response(mechanism, username, terms.token, terms.host, terms.port)
    else:
        response = plain_response(username, cast("Secret", terms.password))
    command, later = auth_commands(mechanism, response)
    return UpstreamLogin(mechanism, "AUTH" if later else "our credentials", command, later)
