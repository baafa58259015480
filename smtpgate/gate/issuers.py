"""The issuers whose tokens are logins: where their keys come from."""

import asyncio
import importlib
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from smtpgate.config import Config
from smtpgate.config.issuers import IssuerConfig
from smtpgate.config.toml import reason
from smtpgate.gate.errors import OpenError
from smtpgate.ports import Clock, NoIssuerKeysError, Reading, TokenLogins
from smtpgate.tasks import TaskOwner
from smtpgate.webhooks.client import CallError, CallSettings, HttpCaller

_TIMEOUT_S: Final = 8.0
_MAX_OCTETS: Final = 64 * 1024
_SUCCESS: Final = 200
OnIssuer = Callable[[str, str | None], None]
"""Is called with an issuer's name, and why its keys cannot be read, or ``None`` if they can."""


class OpenTokenLogins(TokenLogins, Protocol):
    """Logins by token, whose issuers' keys are fetched in the background."""

    def readings(self) -> Iterator[Reading]:
        """The state of the keys, for a scrape."""

    def start(self) -> None:
        """Fetch the keys, now and from time to time."""

    def close(self, others: Iterable[Any] = ()) -> None:
        """Fetch no more keys but those that others have too."""

    def keys_of(self, issuer: IssuerConfig) -> Any:  # noqa: ANN401 - its class is loaded late
        """The keys of an issuer that is configured alike here, or ``None``."""


def new_token_logins(
    config: Config,
    clock: Clock,
    tasks: TaskOwner,
    on_keys: OnIssuer,
    before: OpenTokenLogins | None = None,
) -> OpenTokenLogins | None:
    """The logins by token of a configuration; ``None`` without issuers.

    Those of the configuration before give the keys that they have. Raises OpenError.
    """
    if not config.issuers:
        return None
    # A gate without issuers loads no code for tokens.
    module = importlib.import_module("smtpgate.oauth.logins")
    keys = {
        one.name: (before and before.keys_of(one))
        or module.IssuerKeys(
            partial(_read, one.jwks_file) if one.jwks_file is not None else _caller(one),
            refresh_s=one.refresh_s,
            tasks=tasks,
            on_trouble=partial(on_keys, one.name),
        )
        for one in config.issuers
    }
    made: OpenTokenLogins = module.IssuedLogins(config.issuers, config.logins, keys, clock)
    return made


async def _read(file: Path) -> bytes:
    try:
        octets = await asyncio.to_thread(_beginning, file)
    except OSError as error:
        raise NoIssuerKeysError(f"{file}: {reason(error)}") from None
    return _bounded(octets)


def _beginning(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(_MAX_OCTETS + 1)


def _caller(issuer: IssuerConfig) -> Callable[[], Awaitable[bytes]]:
    # The configuration refuses http://; an issuer may be inside, as that of a cluster is.
    settings = CallSettings(allow_private=True, timeout_s=_TIMEOUT_S, ca_file=issuer.ca_file)
    try:
        caller = HttpCaller(settings)
    except (OSError, ssl.SSLError) as error:
        raise OpenError(f"issuer.{issuer.name}.ca_file: {error}") from None
    return partial(_fetch, caller, issuer.jwks_url or "")


async def _fetch(caller: HttpCaller, url: str) -> bytes:
    try:
        answer = await caller.get(url, (("Accept", "application/json"),))
    except CallError as error:
        raise NoIssuerKeysError(f"the issuer: {error}") from None
    if answer.status != _SUCCESS:
        raise NoIssuerKeysError(f"the issuer answered {answer.status}")
    return _bounded(answer.content)


def _bounded(octets: bytes) -> bytes:
    if len(octets) > _MAX_OCTETS:
        raise NoIssuerKeysError(f"the keys have more than {_MAX_OCTETS} octets")
    return octets
