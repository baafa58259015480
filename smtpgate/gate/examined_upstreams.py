"""The check of the doctor at each upstream: as mail gets there, without sending any."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Final

from smtpgate.admin.gate_mail import GateMailer, MailNotSentError
from smtpgate.config.upstream import UpstreamConfig
from smtpgate.core.upstream import CommandError, UpstreamUnavailableError
from smtpgate.doctor.case import ExaminedGate
from smtpgate.doctor.finding import DoctorFinding, found
from smtpgate.gate.errors import OpenError
from smtpgate.gate.tokens import new_tokens
from smtpgate.gate.upstream import suspicion_about
from smtpgate.relay import PooledUpstream
from smtpgate.relay.connection import cause_of, reason_of
from smtpgate.relay.examined import UpstreamAnswer, examine_upstream
from smtpgate.tasks import LoopTurns, Offload, TaskOwner, Threads

_SLOW_S: Final = 1.0
_ENDS_SOON: Final = timedelta(days=14)
_DRAIN_S: Final = 1.0
_KINDS: Final = {"tls": "upstream-tls-fails", "login": "upstream-login-refused"}
_TEXT: Final = """\
This is a test message of the mail gateway {hostname}, sent by `smtpgate doctor'.
It came by the upstream {upstream}.
"""


async def examine_upstreams(gate: ExaminedGate) -> AsyncIterator[DoctorFinding]:
    """Look at all upstreams, side by side."""
    for findings in await asyncio.gather(
        *(_about(gate, gate.config.with_helo(one)) for one in gate.config.upstreams)
    ):
        for finding in findings:
            yield finding


async def _about(gate: ExaminedGate, upstream: UpstreamConfig) -> list[DoctorFinding]:
    key = f"upstream.{upstream.name}"
    suspicion = await suspicion_about(gate.config, upstream)
    if suspicion:
        kind = "upstream-loops" if "mail would loop" in suspicion else "upstream-unresolved"
        return [found(kind, key, suspicion.removeprefix(f"{key}.host: "))]
    tasks = TaskOwner()
    try:
        answer = await _answer_of(gate, upstream, tasks)
    except UpstreamUnavailableError as error:
        kind = _KINDS.get(error.delivery.cause or "", "upstream-unreachable")
        return [found(kind, key, str(error).removeprefix(f"upstream {upstream.name}: "))]
    except OpenError as error:
        return [found("upstream-login-refused", key, str(error))]
    except OSError as error:
        kind = _KINDS.get(cause_of(error), "upstream-unreachable")
        return [found(kind, key, reason_of(error))]
    except CommandError as error:
        return [found("upstream-unreachable", key, str(error))]
    finally:
        await tasks.drain(_DRAIN_S)
    findings = list(_about_answer(gate, key, answer))
    if gate.test_to:
        findings.append(await _tested(gate, upstream, key))
    return findings


async def _answer_of(
    gate: ExaminedGate, upstream: UpstreamConfig, tasks: TaskOwner
) -> UpstreamAnswer:
    clock = gate.clock
    return await examine_upstream(
        upstream,
        offload=Offload(LoopTurns(clock.monotonic), Threads("doctor")),
        tasks=tasks,
        clock=clock,
        tokens=new_tokens(upstream, clock, tasks),
    )


def _about_answer(
    gate: ExaminedGate, key: str, answer: UpstreamAnswer
) -> Iterator[DoctorFinding]:
    most = gate.config.gate.max_message_octets
    if answer.max_octets is not None and answer.max_octets < most:
        text = f"it takes {answer.max_octets} octets, gate.max_message_octets is {most}"
        yield found("upstream-takes-less", key, text)
    if answer.answer_s > _SLOW_S:
        yield found("upstream-slow", key, f"it answered NOOP after {answer.answer_s:.1f} s")
    ends = answer.certificate_ends
    if ends is not None and ends - gate.clock.now() < _ENDS_SOON:
        text = f"its certificate expires on {ends:%Y-%m-%d}"
        yield found("upstream-certificate-ends-soon", key, text)


async def _tested(gate: ExaminedGate, upstream: UpstreamConfig, key: str) -> DoctorFinding:
    """Send the test message, by this upstream alone."""
    tasks, clock = TaskOwner(), gate.clock
    pool = PooledUpstream(
        upstream, clock=clock, tasks=tasks, tokens=new_tokens(upstream, clock, tasks)
    )
    hostname = gate.config.hostname
    mailer = GateMailer(upstream=pool, hostname=hostname, now=clock.now())
    text = _TEXT.format(hostname=hostname, upstream=upstream.name)
    try:
        await mailer.send(gate.test_to, "Test of the mail gateway", text)
    except MailNotSentError as error:
        return found("test-not-sent", key, str(error))
    finally:
        await pool.close()
        await tasks.drain(_DRAIN_S)
    return found("test-sent", key, f"the message to {gate.test_to} was accepted")
