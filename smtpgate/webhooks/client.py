"""One HTTP call: a POST to an address that was looked up for it, without redirects.

The name is resolved once, and the connection goes to an address of that answer, so that it
cannot lead elsewhere after the check. h11 reads and writes HTTP/1.1; the sockets are asyncio's.
"""

import asyncio
import base64
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import h11

from smtpgate.core.secret import Secret
from smtpgate.webhooks.addresses import can_be_called, is_public

Headers: TypeAlias = Sequence[tuple[str, str]]
# The addresses of a host and port, in the order in which to try them.
Lookup: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]

_MAX_HEAD_OCTETS: Final = 16 * 1024
_MAX_BODY_OCTETS: Final = 64 * 1024
_MAX_ADDRESSES: Final = 4
_MAX_CALLS: Final = 64
_CONNECT_S: Final = 5.0
_READ_OCTETS: Final = 16 * 1024
_SHOWN: Final = 200
_PORTS: Final = {"https": 443, "http": 80}


class CallError(Exception):
    """A call without an answer; the text says why, without any secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSettings:
    """The addresses and schemes that are allowed, and the time that a call may take.

    ``ca_file`` has the certificate authorities of receivers, in the place of the system's.
    """

    allow_plaintext: bool = False
    allow_private: bool = False
    timeout_s: float = 15
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An HTTP answer; ``text`` is the beginning of its body, on one line.

    ``content`` is the body, up to 64 KiB of it.
    """

    status: int
    retry_after: str | None
    text: str
    content: bytes = field(default=b"", repr=False, compare=False)


async def look_up(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, as the system knows them. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


class HttpCaller:
    """Makes calls, a bounded number at once."""

    def __init__(self, settings: CallSettings, *, lookup: Lookup = look_up) -> None:
        self._settings = settings
        self._lookup = lookup
        self._calls = asyncio.Semaphore(_MAX_CALLS)
        # The system's authorities are many: a gate that calls nobody does not read them.
        self._tls = None if settings.ca_file is None else _tls_context(settings.ca_file)
        self._making = asyncio.Lock()

    async def get(self, url: str, headers: Headers) -> HttpAnswer:
        """GET a URL without user information. Raises CallError."""
        return await self._call("GET", url, headers, b"")

    async def post(
        self, url: str, headers: Headers, body: bytes, credentials: Secret | None = None
    ) -> HttpAnswer:
        """POST to a URL without user information. Raises CallError."""
        length = ("Content-Length", str(len(body)))
        fields = (length, *headers, *_authorization(credentials))
        return await self._call("POST", url, fields, body)

    async def _call(self, method: str, url: str, headers: Headers, body: bytes) -> HttpAnswer:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
        if parts.scheme == "http" and not self._settings.allow_plaintext:
            raise CallError("http:// is not allowed (notifications.allow_plaintext)")
        if not host or not port:
            raise CallError("the URL names no host")
        request = h11.Request(
            method=method,
            target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            headers=[
                ("Host", parts.netloc),
                ("Connection", "close"),
                *headers,
            ],
        )
        try:
            async with asyncio.timeout(self._settings.timeout_s), self._calls:
                tls = await self._context() if parts.scheme == "https" else None
                reader, writer = await self._connected(host, port, tls)
                try:
                    return await _exchange(reader, writer, request, body)
                finally:
                    writer.transport.abort()
        except TimeoutError:
            raise CallError(f"no answer within {self._settings.timeout_s:g} s") from None
        except ssl.SSLCertVerificationError as error:
            raise CallError(f"its certificate is refused: {error.verify_message}") from None
        except ssl.SSLError as error:
            raise CallError(f"TLS fails: {error.reason or error}") from None
        except (OSError, EOFError) as error:
            raise CallError(_reason(error)) from None
        except h11.ProtocolError:
            raise CallError("its answer is no HTTP") from None

    async def _context(self) -> ssl.SSLContext:
        """The authorities to trust; the system's are read in a thread, once."""
        async with self._making:
            if self._tls is None:
                self._tls = await asyncio.to_thread(_tls_context)
            return self._tls

    async def _connected(
        self, host: str, port: int, tls: ssl.SSLContext | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to an address that is allowed. Raises CallError or OSError."""
        problem: Exception | None = None
        for address in await self._addresses(host, port):
            try:
                async with asyncio.timeout(_CONNECT_S):
                    return await asyncio.open_connection(
                        address,
                        port,
                        ssl=tls,
                        server_hostname=host if tls is not None else None,
                        limit=_READ_OCTETS,
                    )
            except TimeoutError:
                problem = CallError(f"no connection within {_CONNECT_S:g} s")
            except ssl.SSLError:
                raise
            except OSError as error:
                problem = error
        raise problem or CallError(f"{host} has no address")

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            found = await self._lookup(host, port)
        except (OSError, UnicodeError) as error:
            raise CallError(f"{host} cannot be resolved: {_reason(error)}") from None
        is_allowed = can_be_called if self._settings.allow_private else is_public
        allowed = [address for address in found if is_allowed(address)]
        if found and not allowed:
            raise CallError(f"{host} has no public address (notifications.allow_private)")
        return allowed[:_MAX_ADDRESSES]


def _tls_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """The settings of a client that trusts those authorities, or the system's."""
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


async def _exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    request: h11.Request,
    body: bytes,
) -> HttpAnswer:
    """Send the request, and read its answer as far as it is of use."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_OCTETS)
    for sent in (request, h11.Data(body), h11.EndOfMessage()):
        writer.write(connection.send(sent) or b"")
    await writer.drain()
    response: h11.Response | None = None
    content = bytearray()
    while len(content) <= _MAX_BODY_OCTETS:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            octets = await reader.read(_READ_OCTETS)
            if not octets and response is None:
                raise EOFError
            connection.receive_data(octets)
        elif isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            content += event.data
        elif isinstance(event, h11.EndOfMessage):
            break
    if response is None:
        raise EOFError
    return _answer(response, bytes(content))


def _answer(response: h11.Response, content: bytes) -> HttpAnswer:
    found = dict(response.headers)
    retry_after = found.get(b"retry-after")
    text = content[: 4 * _SHOWN].decode("utf-8", "replace")
    line = "".join(one if one.isprintable() else " " for one in text)[:_SHOWN].strip()
    return HttpAnswer(
        response.status_code,
        None if retry_after is None else retry_after.decode("ascii", "replace"),
        line,
        content,
    )


def _authorization(credentials: Secret | None) -> Headers:
    """The field of Basic authentication (RFC 7617 §2)."""
    if credentials is None:
        return ()
    encoded = base64.b64encode(credentials.value.encode()).decode("ascii")
    return (("Authorization", f"Basic {encoded}"),)


def _reason(error: Exception) -> str:
    if isinstance(error, EOFError):
        return "it closed the connection without an answer"
    if isinstance(error, UnicodeError):
        return "its name is no name of a host"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text)[:_SHOWN].lower()
