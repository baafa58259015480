"""The upstream's side of a trace: our login is never shown, whatever the server repeats."""

import asyncio
from base64 import b64encode
from datetime import UTC, datetime

import pytest

from smtpgate.core.sasl_mechanism import Mechanism
from smtpgate.core.secret import Secret
from smtpgate.core.transcript import SessionFacts, TraceTarget
from smtpgate.core.upstream import Failed, Send, Terms, UpstreamSession
from smtpgate.relay.traced import TracedConnection
from smtpgate.tracing import SessionTranscript, Trace, Tracer

_PLANTED = "planted-s3cr3t-of-ours"


def _terms(mechanism: Mechanism) -> Terms:
    secret = Secret(_PLANTED)
    is_token = mechanism in ("XOAUTH2", "OAUTHBEARER")
    return Terms(
        name="next",
        helo="gate.example.com",
        tls="off",
        is_loopback=True,
        username="gate@example.com",
        password=None if is_token else secret,
        token=secret if is_token else None,
        auth=mechanism,
        host="mx.example.net",
    )


async def _traced(mechanism: Mechanism) -> tuple[Trace, TracedConnection, list[str]]:
    tracer = Tracer(lambda: datetime(2026, 11, 29, tzinfo=UTC))
    trace = tracer.begin(TraceTarget(network="192.0.2.0/24"))
    transcript = SessionTranscript(tracer, SessionFacts("0123456789ab", "192.0.2.1"))
    session = UpstreamSession(terms := _terms(mechanism))
    traced, sent = TracedConnection(transcript, terms), list[str]()

    def take(reply: bytes) -> None:
        for octet in (reply[at : at + 1] for at in range(len(reply))):
            traced.take_replies(octet)
            for step in session.receive(octet):
                traced.take_step(step)
                if isinstance(step, Send):
                    sent.append(step.octets.decode())
                assert isinstance(step, Send | Failed)

    take(b"220 mx ESMTP\r\n")
    take(b"250-mx\r\n250 AUTH PLAIN LOGIN XOAUTH2 OAUTHBEARER\r\n")
    while session.state == "opening" and len(sent) < 4:
        more = sent[-1].strip() + " " + _PLANTED
        code = "334" if mechanism == "LOGIN" and len(sent) < 4 else "535 5.7.8"
        take(f"{code} {more}\r\n".encode())
    take(f"535 5.7.8 {sent[-1].strip()} {b64encode(_PLANTED.encode()).decode()}\r\n".encode())
    return trace, traced, sent


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"])
def test_our_login_is_masked(mechanism: Mechanism) -> None:
    trace, _, sent = asyncio.run(_traced(mechanism))
    shown = "\n".join(line.text for line in trace._waiting)
    secret64 = b64encode(_PLANTED.encode()).decode()
    assert any(len(line) > 30 or secret64 in line for line in sent)
    assert _PLANTED not in shown
    assert secret64 not in shown
    response = sent[-1].split()[-1]
    assert response not in shown
    assert f"AUTH {mechanism}" in shown
    assert "***" in shown
    assert "refused our login" in shown
