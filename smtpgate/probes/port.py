"""A look at one port of the gate, as a client has it: greeting, EHLO, TLS, certificate.

Nothing is sent but EHLO, STARTTLS and QUIT. A server that talks for ever is left at the time
limit, and no line longer than SMTP allows is read.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal

from cryptography import x509

PortTls = Literal["starttls", "implicit", "none"]

_MAX_LINES: Final = 100
# RFC 5321 §4.5.3.1.5: a reply line has 512 octets at most; EHLO's may be longer in practice.
_MAX_LINE_OCTETS: Final = 2048
_CLOSE_S: Final = 1.0
_MAX_FLIGHTS: Final = 8


class PortProblemError(Exception):
    """A port that does not answer as a client needs it; the text says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedCertificate:
    """The certificate that a client gets: its octets (DER), names, and times.

    ``trust_problem`` is OpenSSL's reason not to trust its chain with the system's authorities,
    or empty.
    """

    octets: bytes
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    trust_problem: str = ""

    def is_for(self, host: str) -> bool:
        """True if a client that wants that host accepts the names (RFC 9525 §6.3)."""
        wanted = host.lower().rstrip(".")
        parent = wanted.partition(".")[2]
        names = {name.lower().rstrip(".") for name in self.names}
        return wanted in names or f"*.{parent}" in names


@dataclass(frozen=True, slots=True, kw_only=True)
class PortAnswer:
    """The answers of a port: EHLO's lines, behind TLS if the port has that."""

    extensions: tuple[str, ...] = ()
    tls_version: str = ""
    certificate: ServedCertificate | None = None

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """The SASL mechanisms that are offered (RFC 4954 §3)."""
        for line in self.extensions:
            keyword, *words = line.upper().split()
            if keyword == "AUTH":
                return tuple(words)
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PortQuestion:
    """The port to look at; ``is_smtp`` is false for HTTPS. ``client`` is our name in EHLO.

    ``own_tls`` is the side of the server as the files of the gate make it, if that is known.
    """

    address: str
    port: int
    tls: PortTls
    server_name: str
    client: str
    is_smtp: bool = True
    own_tls: ssl.SSLContext | None = None


async def look_at_port(question: PortQuestion, timeout_s: float) -> PortAnswer:
    """Connect and take any certificate, and then verify it.

    Where the files have the same one it is verified with them, without a connection: a
    handshake that the client breaks off would be a line in the gate's log. Otherwise it is
    connected to again. Raises PortProblemError, OSError or TimeoutError.
    """
    async with asyncio.timeout(timeout_s):
        answer = await _look(question, _trusting_all())
        certificate = answer.certificate
        if certificate is None:
            return answer
        problem = await asyncio.to_thread(_own_trust_problem, question, certificate.octets)
        if problem is None:
            problem = await _trust_problem(question)
    return replace(answer, certificate=replace(certificate, trust_problem=problem))


async def _trust_problem(question: PortQuestion) -> str:
    """OpenSSL's words about the chain; of names and times there are better ones."""
    context = await asyncio.to_thread(_verifying)
    try:
        _ = await _look(question, context)
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    return ""


def _own_trust_problem(question: PortQuestion, octets: bytes) -> str | None:
    """The same of the files' chain, if they have that certificate; else ``None``."""
    server, name = question.own_tls, question.server_name
    if server is None:
        return None
    try:
        seen = _handshake(_trusting_all(), server, name)
        if seen.getpeercert(binary_form=True) != octets:
            return None
        _ = _handshake(_verifying(), server, name)
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except OSError:
        return None
    return ""


def _handshake(
    client: ssl.SSLContext, server: ssl.SSLContext, server_name: str
) -> ssl.SSLObject:
    """The client's end of a handshake in memory. Raises SSLError."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_end = client.wrap_bio(to_client, to_server, server_hostname=server_name)
    server_end = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(_MAX_FLIGHTS):
        try:
            client_end.do_handshake()
        except ssl.SSLWantReadError:
            with suppress(ssl.SSLWantReadError):
                server_end.do_handshake()
        else:
            return client_end
    raise ssl.SSLError("the handshake does not end")


def _verifying() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    return context


def _trusting_all() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _look(question: PortQuestion, context: ssl.SSLContext) -> PortAnswer:
    is_implicit = question.tls == "implicit"
    async with _connected(question, context if is_implicit else None) as (reader, writer):
        extensions: tuple[str, ...] = ()
        if question.is_smtp:
            extensions = await _greeted(reader, writer, question.client)
        if question.tls == "starttls":
            if "STARTTLS" not in (line.upper() for line in extensions):
                raise PortProblemError("EHLO does not offer STARTTLS")
            await _asked(reader, writer, "STARTTLS", "220")
            await writer.start_tls(context, server_hostname=question.server_name)
            extensions = await _ehlo(reader, writer, question.client)
        seen = _seen(writer, extensions)
        if question.is_smtp:
            writer.write(b"QUIT\r\n")
        return seen


@asynccontextmanager
async def _connected(
    question: PortQuestion, context: ssl.SSLContext | None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(
        question.address,
        question.port,
        ssl=context,
        server_hostname=question.server_name if context is not None else None,
        limit=_MAX_LINE_OCTETS,
    )
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await writer.wait_closed()


async def _greeted(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: str
) -> tuple[str, ...]:
    await _reply(reader, "220", "the greeting")
    return await _ehlo(reader, writer, client)


async def _ehlo(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: str
) -> tuple[str, ...]:
    """The lines of the reply to EHLO behind the first (RFC 5321 §4.1.1.1)."""
    return (await _asked(reader, writer, f"EHLO {client}", "250"))[1:]


async def _asked(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, command: str, code: str
) -> tuple[str, ...]:
    writer.write(f"{command}\r\n".encode())
    return await _reply(reader, code, f"the reply to {command.partition(' ')[0]}")


async def _reply(reader: asyncio.StreamReader, code: str, name: str) -> tuple[str, ...]:
    """The texts of a reply with that code. Raises PortProblemError."""
    texts: list[str] = []
    while len(texts) < _MAX_LINES:
        try:
            line = (await reader.readuntil(b"\r\n"))[:-2].decode("ascii", "replace")
        except asyncio.IncompleteReadError:
            raise PortProblemError(f"the connection was closed before {name}") from None
        except asyncio.LimitOverrunError:
            raise PortProblemError(f"{name} has a line that is too long") from None
        if line[:3] != code:
            raise PortProblemError(f"{name} is {line[:200]!r}")
        texts.append(line[4:])
        if line[3:4] != "-":
            return tuple(texts)
    raise PortProblemError(f"{name} has too many lines")


def _seen(writer: asyncio.StreamWriter, extensions: tuple[str, ...]) -> PortAnswer:
    connection = writer.get_extra_info("ssl_object")
    if connection is None:
        return PortAnswer(extensions=extensions)
    return PortAnswer(
        extensions=extensions,
        tls_version=connection.version() or "",
        certificate=certificate_of(connection.getpeercert(binary_form=True)),
    )


def certificate_of(octets: bytes) -> ServedCertificate:
    """The certificate of those octets (DER). Raises ValueError."""
    leaf = x509.load_der_x509_certificate(octets)
    return ServedCertificate(
        octets=octets,
        names=_names(leaf),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
    )


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = [
        str(one)
        for one in names.get_values_for_type(x509.IPAddress)
        if isinstance(one, IPv4Address | IPv6Address)
    ]
    return (*names.get_values_for_type(x509.DNSName), *addresses)
