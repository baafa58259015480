"""The check of the gate's ports, as clients see them: TLS, certificates, logins."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Final

from smtpgate.config import Config
from smtpgate.doctor.case import ExaminedGate
from smtpgate.doctor.finding import DoctorFinding, found
from smtpgate.probes.port import (
    PortAnswer,
    PortProblemError,
    PortQuestion,
    PortTls,
    ServedCertificate,
    look_at_port,
)

_PORT_S: Final = 10.0
_ENDS_SOON: Final = timedelta(days=14)
# A socket that listens on all addresses answers on loopback.
_ANY: Final[Mapping[str, str]] = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnPort:
    """A port of the gate: where it is, and what clients may expect of it."""

    label: str
    section: str
    address: str
    port: int
    tls: PortTls
    host: str
    has_login: bool = False
    is_smtp: bool = True
    is_proxied: bool = False
    is_for_certificates: bool = False


def own_ports(config: Config) -> Iterator[OwnPort]:
    """The ports that speak SMTP or HTTPS with a certificate."""
    for one in config.listeners:
        address = _ANY.get(one.address, one.address)
        yield OwnPort(
            label=one.label,
            section=one.section,
            address=address,
            port=one.port,
            tls=one.tls,
            host=config.hostname,
            has_login=True,
            is_proxied=any(
                ip_address(address) in ip_network(str(network), strict=False)
                for network in one.proxy_from
            ),
            is_for_certificates=(
                one.client_ca_file is not None and one.client_certificate != "optional"
            ),
        )
    for api in config.apis:
        yield OwnPort(
            label=api.label,
            section=api.section,
            address=_ANY.get(api.address, api.address),
            port=api.port,
            tls=api.tls,
            host=config.hostname,
            is_smtp=False,
        )
    feedback = config.feedback
    if feedback.enabled:
        has_tls = bool(feedback.tls_cert_file or feedback.certificates)
        yield OwnPort(
            label="[feedback]",
            section="feedback",
            address=_ANY.get(feedback.address, feedback.address),
            port=feedback.port,
            tls="starttls" if has_tls else "none",
            host=feedback.host,
        )


@dataclass(frozen=True, slots=True)
class FilesOfPort:
    """The certificates in the files of a port, and the server's side of TLS with them."""

    certificates: Sequence[ServedCertificate] = ()
    tls: ssl.SSLContext | None = None


Files = Mapping[str, FilesOfPort]
"""The files of each port, by its label."""
_NO_FILES: Final = FilesOfPort()


async def examine_ports(gate: ExaminedGate, files: Files) -> AsyncIterator[DoctorFinding]:
    """Connect to each port. When none is open the gate is down, and the files are looked at."""
    ports = list(own_ports(gate.config))
    for finding in filter(None, map(_not_tried, ports)):
        yield finding
    tried = [one for one in ports if _not_tried(one) is None]
    answers = await asyncio.gather(
        *(_answer_of(gate, one, files.get(one.label, _NO_FILES).tls) for one in tried)
    )
    is_down = bool(answers) and all(
        isinstance(answer, ConnectionRefusedError) for answer in answers
    )
    if is_down:
        yield found("gate-down", "gate", "none of its ports that can be tried is open")
    now = gate.clock.now()
    seen = dict(zip((one.label for one in tried), answers, strict=True))
    for one in ports:
        answer, own = seen.get(one.label), files.get(one.label, _NO_FILES).certificates
        if isinstance(answer, PortAnswer):
            findings = _about_answer(one, answer, own, now)
        else:
            findings = _about_files(one, own, now)
        if isinstance(answer, Exception) and not is_down:
            yield _about_trouble(one, answer)
        for finding in findings:
            yield finding


def _not_tried(port: OwnPort) -> DoctorFinding | None:
    """The reason why the port cannot be looked at from here."""
    if port.is_proxied:
        return found("port-proxied", port.section, "proxy_from has this machine's address")
    if port.is_for_certificates:
        return found("port-client-certificate", port.section, "client_ca_file is set")
    return None if port.port else found("port-free", port.section, "port = 0")


async def _answer_of(
    gate: ExaminedGate, port: OwnPort, own_tls: ssl.SSLContext | None
) -> PortAnswer | Exception:
    question = PortQuestion(
        address=port.address,
        port=port.port,
        tls=port.tls,
        server_name=port.host,
        client=gate.config.hostname,
        is_smtp=port.is_smtp,
        own_tls=own_tls,
    )
    try:
        return await look_at_port(question, _PORT_S)
    except (OSError, TimeoutError, PortProblemError) as error:
        return error


def _about_trouble(port: OwnPort, error: Exception) -> DoctorFinding:
    where = f"{port.section} at {port.address} port {port.port}"
    if isinstance(error, ConnectionRefusedError):
        return found("port-closed", where, "the connection was refused")
    if isinstance(error, PortProblemError):
        kind = "port-tls-fails" if "STARTTLS" in str(error) else "port-silent"
        return found(kind, where, str(error))
    if isinstance(error, TimeoutError):
        return found("port-silent", where, f"no answer within {_PORT_S:g} s")
    text = getattr(error, "reason", None) or getattr(error, "strerror", None)
    text = str(text or type(error).__name__).lower().replace("_", " ")
    return found("port-tls-fails", where, text)


def _about_answer(
    port: OwnPort, answer: PortAnswer, own: Sequence[ServedCertificate], now: datetime
) -> Iterator[DoctorFinding]:
    where = f"{port.section} at {port.address} port {port.port}"
    if port.has_login and not answer.mechanisms:
        yield found("port-without-login", where, "EHLO offers no AUTH")
    certificate = answer.certificate
    if certificate is None:
        return
    yield from _about_certificate(where, certificate, port.host, now)
    if certificate.trust_problem:
        text = f"this machine does not trust its certificate: {certificate.trust_problem}"
        yield found("certificate-untrusted", where, text)
    if own and certificate.octets not in {one.octets for one in own}:
        yield found("certificate-old", where, "clients get one that is not in cert_file")
    for other in own:  # those that clients get by SNI
        if other.octets != certificate.octets:
            yield from _about_time(f"{port.section}, for {_names(other)}", other, now)


def _about_files(
    port: OwnPort, own: Sequence[ServedCertificate], now: datetime
) -> Iterator[DoctorFinding]:
    """The certificates of a port that cannot be looked at, as they are in its files."""
    for certificate in own:
        yield from _about_time(port.section, certificate, now)
    if own and not any(one.is_for(port.host) for one in own):
        yield _other_name(port.section, own[0], port.host)


def _about_certificate(
    where: str, certificate: ServedCertificate, host: str, now: datetime
) -> Iterator[DoctorFinding]:
    yield from _about_time(where, certificate, now)
    if not certificate.is_for(host):
        yield _other_name(where, certificate, host)


def _other_name(where: str, certificate: ServedCertificate, host: str) -> DoctorFinding:
    text = f"is for {_names(certificate)}, and not for {host}"
    return found("certificate-other-name", where, text)


def _names(certificate: ServedCertificate) -> str:
    return ", ".join(certificate.names[:8]) or "no name"


def _about_time(
    where: str, certificate: ServedCertificate, now: datetime
) -> Iterator[DoctorFinding]:
    ends = certificate.not_after
    if now < certificate.not_before:
        text = f"is valid only from {certificate.not_before:%Y-%m-%d %H:%M} UTC on"
        yield found("certificate-expired", where, text)
    elif ends <= now:
        yield found("certificate-expired", where, f"expired on {ends:%Y-%m-%d}")
    elif ends - now < _ENDS_SOON:
        yield found("certificate-ends-soon", where, f"expires on {ends:%Y-%m-%d}")
