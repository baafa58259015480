"""Opening connections to the upstream: names, addresses, TLS."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from ipaddress import ip_address

from smtpgate.config.upstream import UpstreamConfig
from smtpgate.core.secret import Secret
from smtpgate.core.upstream import LoginRefusedError, Terms, UpstreamUnavailableError
from smtpgate.ports import AccessTokens, NoTokenError, Reading
from smtpgate.relay.client_tls import ClientTls, OnFiles
from smtpgate.relay.connection import Connection, cause_of, reason_of
from smtpgate.relay.names import Address, Names
from smtpgate.relay.race import first_success, interleaved
from smtpgate.tasks import Offload, TaskOwner


class Connector:
    """Opens connections to one upstream.

    With ``tls = "required"`` the server's certificate is verified; with ``"opportunistic"`` it
    is not, and when TLS fails the connection is tried again in the clear. Raises CommandError
    for a configuration of which no commands can be made, OSError for a CA file that cannot be
    read. ``offload`` reads messages in files, and spreads large ones over turns of the loop.
    With ``tokens`` it logs in with an access token; when the server refuses one, with another.
    """

    def __init__(
        self,
        config: UpstreamConfig,
        offload: Offload,
        tasks: TaskOwner,
        tokens: AccessTokens | None = None,
        on_files: OnFiles | None = None,
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
        self.last_terms = self._terms
        self._names = Names(config.host, config.port)
        self._tls = ClientTls(config, tasks, on_files)
        self._tasks = tasks
        self._sources = {_family_of(one): one for one in config.source_address}

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
        self.last_terms = terms
        context = await self._tls.context()
        connection = await self._connect(terms, context, deadline, on_closed)
        try:
            await connection.become_ready(context, self._server_name)
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _connect(
        self,
        terms: Terms,
        context: ssl.SSLContext | None,
        deadline: float,
        on_closed: Callable[[Connection], None],
    ) -> Connection:
        """Connect to the address that answers first, in the time that there is for all."""
        loop, config = asyncio.get_running_loop(), self._config
        until = min(loop.time() + config.connect_timeout_s, deadline)

        async def connect(address: Address) -> Connection:
            family, host = address[0], str(address[4][0])
            source = self._sources.get(family)
            _, connection = await loop.create_connection(
                lambda: Connection(config, terms, deadline, on_closed, self._offload),
                host,
                config.port,
                family=family,
                local_addr=None if source is None else (source, 0),
                ssl=context if config.tls_implicit else None,
                server_hostname=self._server_name if config.tls_implicit else None,
            )
            return connection

        try:
            async with asyncio.timeout_at(until):
                addresses = await self._addresses()
        except OSError as error:
            raise self._unavailable(error) from error
        try:
            async with asyncio.timeout_at(until):
                attempts = [partial(connect, one) for one in addresses]
                return await first_success(attempts, Connection.abort, self._tasks)
        except OSError as error:
            self._names.doubt()
            raise self._unavailable(error) from error

    async def _addresses(self) -> list[Address]:
        """The addresses in the order in which to try them. Raises OSError."""
        found = interleaved(await self._names.addresses())
        if self._sources:  # one that is not configured would be another source
            found = [one for one in found if one[0] in self._sources]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "no address of the source's family")
        return found

    def readings(self) -> Iterator[Reading]:
        """The state of tokens and certificates, for a scrape."""
        yield from self._tls.readings()
        if self._tokens is not None:
            yield from self._tokens.readings()

    def close(self) -> None:
        """Look the name up no more, and fetch no tokens."""
        if self._tokens is not None:
            self._tokens.close()
        self._names.close()

    def _unavailable(self, error: OSError) -> UpstreamUnavailableError:
        return UpstreamUnavailableError(
            f"upstream {self._config.name}: cannot connect: {reason_of(error)}",
            cause_of(error),
        )


def _family_of(address: str) -> socket.AddressFamily:
    is_ipv4 = ip_address(address).version == 4
    return socket.AF_INET if is_ipv4 else socket.AF_INET6
