"""Opening connections to the upstream: names, addresses, TLS."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import replace

from smtpgate.config.sections import UpstreamConfig
from smtpgate.core.upstream import Terms, UpstreamUnavailableError
from smtpgate.relay.connection import Connection, cause_of, reason_of
from smtpgate.relay.names import Names
from smtpgate.tasks import Offload


class Connector:
    """Opens connections to one upstream.

    With ``tls = "required"`` the server's certificate is verified; with ``"opportunistic"`` it
    is not, and when TLS fails the connection is tried again in the clear. Raises CommandError
    for a configuration of which no commands can be made, OSError for a CA file that cannot be
    read. ``offload`` reads messages in files, and spreads large ones over turns of the loop.
    """

    def __init__(self, config: UpstreamConfig, offload: Offload) -> None:
        self._config = config
        self._offload = offload
        self._terms = Terms(
            name=config.name,
            helo=config.helo,
            tls=config.tls,
            chunking=config.chunking,
            username=config.username,
            password=config.password,
        )
        self._names = Names(config.host, config.port)
        self._context = _tls_context(config)
        self._server_name = config.tls_name or config.host

    async def open(
        self, deadline: float, on_closed: Callable[[Connection], None]
    ) -> Connection:
        """A connection on which mail can be sent. Raises UpstreamUnavailableError."""
        try:
            return await self._open(self._terms, deadline, on_closed)
        except OSError as error:
            if self._config.tls != "opportunistic":
                raise self._unavailable(error) from error
        in_clear = replace(self._terms, tls="off")
        return await self._open(in_clear, deadline, on_closed)

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
