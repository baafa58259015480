"""One connection to an upstream that sends no mail: connect, EHLO, TLS, login, NOOP, QUIT."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from smtpgate.config.upstream import UpstreamConfig
from smtpgate.ports import AccessTokens, Clock
from smtpgate.relay.connector import Connector
from smtpgate.tasks import Offload, TaskOwner


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamAnswer:
    """The answers of an upstream; times in seconds, ``max_octets`` as EHLO's SIZE says.

    ``certificate_ends`` is known of a certificate that was verified.
    """

    extensions: frozenset[str]
    max_octets: int | None
    connect_s: float
    answer_s: float
    certificate_ends: datetime | None


async def examine_upstream(
    config: UpstreamConfig,
    *,
    offload: Offload,
    tasks: TaskOwner,
    clock: Clock,
    tokens: AccessTokens | None = None,
) -> UpstreamAnswer:
    """Connect as the gate does for a message, and send none.

    Raises UpstreamUnavailableError, and an OSError where a TLS handshake fails or a file cannot
    be read.
    """
    loop = asyncio.get_running_loop()
    patience_s = min(config.connect_timeout_s + config.command_timeout_s, config.deadline_s)
    deadline = loop.time() + patience_s
    connector = Connector(config, offload, tasks, tokens)
    try:
        began = clock.monotonic()
        connection = await connector.open(deadline, lambda _: None)
        connected = clock.monotonic()
        await connection.check(deadline)
        answered = clock.monotonic()
        certificate = connection.peer_certificate
        extensions, max_octets = connection.extensions, connection.max_octets
        await connection.quit()
    finally:
        connector.close()
    return UpstreamAnswer(
        extensions=extensions,
        max_octets=max_octets,
        connect_s=connected - began,
        answer_s=answered - connected,
        certificate_ends=_end_of(certificate),
    )


def _end_of(certificate: Mapping[str, Any]) -> datetime | None:
    ends = certificate.get("notAfter")
    if ends is None:
        return None
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), UTC)
