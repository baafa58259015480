"""Opening connections to the upstream: names, addresses, TLS."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import replace

from smtpgate.config.sections import UpstreamConfig
from smtpgate.core.secret import Secret
from smtpgate.core.upstream import LoginRefusedError, Terms, UpstreamUnavailableError
from smtpgate.ports import AccessTokens, NoTokenError
from smtpgate.relay.connection import Connection, cause_of, reason_of
from smtpgate.relay.names import Names
from smtpgate.tasks import Offload


class Connector:
    """Opens connections to one upstream.

    With ``tls = "required"`` the server's certificate is verified; with ``"opportunistic"`` it
    is not, and when TLS fails the connection is tried again in the clear. Raises CommandError
    for a configuration of which no commands can be made, OSError for a CA file that cannot be
    read. ``offload`` reads messages in files, and spreads large ones over turns of the loop.
    With ``tokens`` it logs in with an access token; when the server refuses one, with another.
    """

    def __init__(
        self, config: UpstreamConfig, offload: Offload, tokens: AccessTokens | None = None
    ) -> None:
        self._config = config
        self._offload = offload
        self._tokens = tokens
        self._server_name = config.tls_name or config.host
        self._terms = Terms(
            name=config.name,
            helo=config.helo,
            tls=config.tls,
            chunking=config.chunking,
            username=config.username,
            password=config.password,
            auth=config.mechanism,
            host=config.host,
            port=config.port,
        )
        self._names = Names(config.host, config.port)
        self._context = _tls_context(config)

    async def open(
        self, deadline: float, on_closed: Callable[[Connection], None]
    ) -> Connection:
        """A connection on which mail can be sent. Raises UpstreamUnavailableError."""
        if self._tokens is None:
            return await self._open_with(self._terms, deadline, on_closed)
        token = await self._token(self._tokens, deadline)
        try:
            terms = replace(self._terms, token=token)
            return await self._open_with(terms, deadline, on_closed)
        except LoginRefusedError as error:
            if not (error.is_invalid and self._tokens.refused(token)):
                raise
        # It may have been revoked, so another one is tried once.
        terms = replace(self._terms, token=await self._token(self._tokens, deadline))
        return await self._open_with(terms, deadline, on_closed)

    async def _token(self, tokens: AccessTokens, deadline: float) -> Secret:
        loop = asyncio.get_running_loop()
        until = min(loop.time() + self._config.connect_timeout_s, deadline)
        try:
            async with asyncio.timeout_at(until):
                return await tokens.token()
        except NoTokenError as error:
            problem = str(error)
        except TimeoutError:
            problem = "timed out"
        text = f"upstream {self._config.name}: no access token: {problem}"
        raise UpstreamUnavailableError(text, "login")

    async def _open_with(
        self, terms: Terms, deadline: float, on_closed: Callable[[Connection], None]
    ) -> Connection:
        try:
            return await self._open(terms, deadline, on_closed)
        except OSError as error:
            if self._config.tls != "opportunistic":
                raise self._unavailable(error) from error
        return await self._open(replace(terms, tls="off"), deadline, on_closed)

    async def _open(
        self, terms: Terms, deadline: float, on_closed: Callable[[Connection], None]
    ) -> Connection:
        """Raises UpstreamUnavailableError, and OSError when the STARTTLS handshake fails."""
        connection = await self._connect(terms, deadline, on_closed)
        try:
            await connection.become_ready(self._context, self._server_name)
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _connect(
        self, terms: Terms, deadline: float, on_closed: Callable[[Connection], None]
    ) -> Connection:
        """Try every address in turn, each with its share of the time that is left."""
        loop, config = asyncio.get_running_loop(), self._config
        until = min(loop.time() + config.connect_timeout_s, deadline)
        problem: OSError = TimeoutError()
        try:
            async with asyncio.timeout_at(until):
                addresses = await self._names.addresses()
        except OSError as error:
            raise self._unavailable(error) from error
        for tried, (family, _, _, _, address) in enumerate(addresses):
            share = (until - loop.time()) / (len(addresses) - tried)
            try:
                async with asyncio.timeout(share):
                    _, connection = await loop.create_connection(
                        lambda: Connection(config, terms, deadline, on_closed, self._offload),
                        str(address[0]),
                        config.port,
                        family=family,
                        ssl=self._context if config.tls_implicit else None,
                        server_hostname=self._server_name if config.tls_implicit else None,
                    )
            except OSError as error:
                problem = error
            else:
                return connection
        self._names.doubt()
        raise self._unavailable(problem) from problem

    def _unavailable(self, error: OSError) -> UpstreamUnavailableError:
        return UpstreamUnavailableError(
            f"upstream {self._config.name}: cannot connect: {reason_of(error)}",
            cause_of(error),
        )


def _tls_context(config: UpstreamConfig) -> ssl.SSLContext | None:
    if config.tls == "off":
        return None
    context = ssl.create_default_context(cafile=config.ca_file)
    if config.tls == "opportunistic":  # RFC 7435 §3: some protection is better than none
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8997, RFC 8314 §4.1
    return context
