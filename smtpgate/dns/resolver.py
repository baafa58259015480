"""Queries the DNS for TXT and MX records; only a reliable answer counts.

NXDOMAIN and NODATA are answers. Everything else (SERVFAIL, a timeout, an answer that is
malformed or truncated) is a ResolverError: an identity may fail because of an answer, but not
because a name server is not available. An answer to another question, or with another id, is
ignored: the right one may still arrive.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.query
import dns.rdata
import dns.rdatatype
import dns.rdtypes.ANY.MX
import dns.rdtypes.ANY.PTR
import dns.rdtypes.ANY.SOA
import dns.rdtypes.ANY.TXT
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.resolver
import dns.rrset

from smtpgate.config.sections import DnsConfig
from smtpgate.core.proof.mail_from import Mx
from smtpgate.core.proof.nameserver import Nameserver
from smtpgate.core.proof.soa import Soa
from smtpgate.ports import ResolverError

_SYSTEM: Final = "/etc/resolv.conf"
_MAX_IN_FLIGHT: Final = 64  # each query has its own socket
_MAX_CNAMES: Final = 8
_MAX_RECORDS: Final = 256
_MAX_OCTETS: Final = 32 * 1024
_MAX_REASONS: Final = 4
_SLACK_S: Final = 0.5
# This size passes every path without fragments (RFC 6891 §6.2.5); longer answers come by TCP.
_UDP_OCTETS: Final = 1232


class DnsResolver:
    """Queries the name servers of ``[dns]``, or those of the system at that moment."""

    def __init__(self, settings: DnsConfig, *, system_file: str = _SYSTEM) -> None:
        self._nameservers = settings.nameservers
        self._timeout_s = settings.timeout_s
        self._lifetime_s = settings.lifetime_s
        self._system_file = system_file
        self._backend = dns.asyncbackend.get_backend("asyncio")
        self._in_flight = asyncio.Semaphore(_MAX_IN_FLIGHT)

    async def txt(self, name: str) -> tuple[bytes, ...]:
        """The TXT records of the name, each with its strings joined. Raises ResolverError."""
        records = tuple(
            b"".join(record.strings)
            for record in await self._records(name, "TXT")
            if isinstance(record, dns.rdtypes.ANY.TXT.TXT)
        )
        if sum(map(len, records)) > _MAX_OCTETS:
            raise _too_many(name, "TXT")
        return records

    async def mx(self, name: str) -> tuple[Mx, ...]:
        """The MX records of the name, the preferred host first. Raises ResolverError."""
        return tuple(
            sorted(
                Mx(record.preference, str(record.exchange).rstrip(".").lower())
                for record in await self._records(name, "MX")
                if isinstance(record, dns.rdtypes.ANY.MX.MX)
            )
        )

    async def addresses(self, name: str) -> tuple[IPv4Address | IPv6Address, ...]:
        """The IPv4 and IPv6 addresses of the name. Raises ResolverError."""
        found = await asyncio.gather(self._records(name, "A"), self._records(name, "AAAA"))
        return tuple(
            ip_address(record.address)
            for records in found
            for record in records
            if isinstance(record, dns.rdtypes.IN.A.A | dns.rdtypes.IN.AAAA.AAAA)
        )

    async def names(self, address: IPv4Address | IPv6Address) -> tuple[str, ...]:
        """The names that the address leads back to (RFC 1035 §3.5). Raises ResolverError."""
        return tuple(
            _plain(record.target)
            for record in await self._records(address.reverse_pointer, "PTR")
            if isinstance(record, dns.rdtypes.ANY.PTR.PTR)
        )

    async def soa(self, name: str) -> Soa | None:
        """The start of authority of the zone that has the name. Raises ResolverError.

        A name that is not the top of its zone has that in the answer's authority section
        (RFC 2308 §2.2).
        """
        async with self._asking(name):
            try:
                answer = await self._resolver().resolve(
                    name, "SOA", raise_on_no_answer=False, backend=self._backend
                )
            except dns.resolver.NXDOMAIN:
                return None
        for rrset in (answer.rrset, *answer.response.authority):
            for record in rrset or ():
                if isinstance(record, dns.rdtypes.ANY.SOA.SOA):
                    return Soa(_plain(record.mname), _plain(record.rname), record.serial)
        return None

    @asynccontextmanager
    async def _asking(self, name: str) -> AsyncGenerator[None]:
        """Ask in here, within bounds; the errors of dnspython become ResolverError."""
        async with self._in_flight:
            try:
                # dnspython has a lifetime too, for each name on the way, but goes by the wall
                # clock, which can be set back. If it ends in time, its error says more.
                async with asyncio.timeout(self._lifetime_s + _SLACK_S):
                    yield
            except TimeoutError:
                raise ResolverError(
                    f"{name!r}: no answer within {self._lifetime_s:g} s"
                ) from None
            except dns.exception.DNSException as error:
                raise _error_of(name, error) from None

    async def _records(self, name: str, kind: str) -> tuple[dns.rdata.Rdata, ...]:
        """All records of that type; too many are an error, and none is left out."""
        try:
            wanted = dns.name.from_text(name.encode("ascii"))
        except (dns.exception.DNSException, UnicodeError):
            raise ResolverError(f"{name!r} cannot be a name in the DNS") from None
        async with self._asking(name):
            answer = await self._ask(wanted, kind)
        records = tuple(answer or ())
        if len(records) > _MAX_RECORDS:
            raise _too_many(name, kind)
        return records

    async def _ask(self, name: dns.name.Name, kind: str) -> dns.rrset.RRset | None:
        """Ask, and go on asking where a CNAME leads to (RFC 1034 §3.6.2).

        ``None`` is the answer that there is no such record.
        """
        resolver = self._resolver()
        asked = name
        for _ in range(_MAX_CNAMES):
            try:
                answer = await resolver.resolve(
                    asked, kind, raise_on_no_answer=False, backend=self._backend
                )
            except dns.resolver.NXDOMAIN:
                return None
            if answer.rrset is not None:
                return answer.rrset
            if _has(answer, dns.rdatatype.SOA):
                return None
            if answer.canonical_name == asked:
                if _has(answer, dns.rdatatype.NS):  # RFC 2308 §2.2: a referral is no answer
                    server = answer.nameserver
                    raise ResolverError(
                        f"{_shown(name)}: {server} refers to other name servers; "
                        "one is needed that asks them itself"
                    )
                return None
            asked = answer.canonical_name
        raise ResolverError(f"{_shown(name)}: more than {_MAX_CNAMES} CNAME records in a row")

    def _resolver(self) -> dns.asyncresolver.Resolver:
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = [
            _Server(str(one.address), one.port)
            for one in self._nameservers or _system_nameservers(self._system_file)
        ]
        resolver.timeout = self._timeout_s
        resolver.lifetime = self._lifetime_s
        resolver.use_edns(0, payload=_UDP_OCTETS)
        return resolver


class _Server(dns.nameserver.Do53Nameserver):
    """A name server whose long answers are read in a thread.

    What comes by TCP can hold thousands of records of a stranger's zone, and to read them takes
    a tenth of a second. dnspython would also take an answer that is cut short even there.
    """

    def __str__(self) -> str:
        return str(Nameserver(ip_address(self.address), self.port))

    async def async_query(
        self,
        request: dns.message.QueryMessage,
        timeout: float,
        source: str | None,
        source_port: int,
        max_size: bool,
        backend: Any,  # noqa: ANN401 - dnspython does not export its type
        one_rr_per_rrset: bool = False,
        ignore_trailing: bool = False,
    ) -> dns.message.Message:
        if not max_size:
            return await super().async_query(
                request, timeout, source, source_port, max_size, backend
            )
        async with asyncio.timeout(timeout):
            answer = await self._by_tcp(request.to_wire(prepend_length=True))
            response = await asyncio.to_thread(
                dns.message.from_wire, answer, raise_on_truncation=True
            )
        if not request.is_response(response):
            raise dns.query.BadResponse
        return response

    async def _by_tcp(self, request: bytes) -> bytes:
        """The answer's octets (RFC 1035 §4.2.2)."""
        reader, writer = await asyncio.open_connection(self.address, self.port)
        try:
            writer.write(request)
            length = int.from_bytes(await reader.readexactly(2), "big")
            return await reader.readexactly(length)
        finally:
            writer.transport.abort()


def _system_nameservers(file: str) -> list[Nameserver]:
    """Those of the system's resolver, as its file says now."""
    try:
        named = dns.asyncresolver.Resolver(file).nameservers
        return [Nameserver(ip_address(str(address))) for address in named]
    except (dns.exception.DNSException, ValueError):
        raise ResolverError(
            f"{file} cannot be read or names no name server; set those to ask"
        ) from None


def _too_many(name: str, kind: str) -> ResolverError:
    return ResolverError(f"{name!r}: there are too many or too large {kind} records")


def _error_of(name: str, error: dns.exception.DNSException) -> ResolverError:
    """The error with the failure of each server.

    A truncated datagram is left out: the query was repeated by TCP.
    """
    failures = dict.fromkeys(
        f"{server} {_reason(problem)}"
        for server, is_tcp, _, problem, _ in error.kwargs.get("errors", ())
        if is_tcp or not isinstance(problem, dns.message.Truncated)
    )
    if failures:
        return ResolverError(f"{name!r}: " + ", ".join(list(failures)[:_MAX_REASONS]))
    return ResolverError(f"{name!r}: the name server {_reason(error)}")


def _has(answer: dns.resolver.Answer, kind: dns.rdatatype.RdataType) -> bool:
    """True if the answer's authority section has a record of that type."""
    return any(rrset.rdtype == kind for rrset in answer.response.authority)


def _plain(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


def _shown(name: dns.name.Name) -> str:
    return repr(name.to_text(omit_final_dot=True))


def _reason(problem: object) -> str:
    """The failure of a name server, without the words of a library."""
    match problem:
        case str():
            return f"answered {problem}"  # the code's name, such as SERVFAIL
        case TimeoutError() | dns.exception.Timeout():
            return "did not answer in time"
        case EOFError():
            return "closed the connection"
        case dns.message.Truncated():
            return "sent a truncated answer"
        case OSError(errno=int(number)):
            return f"cannot be queried: {os.strerror(number).lower()}"
    return "sent a malformed answer"
