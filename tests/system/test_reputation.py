"""Senders whose mail bounces are paused by a running gate, and resumed by a person."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from smtpgate.admin import configuration_sets, reputation
from smtpgate.admin.refs import ConfigurationSetRef, DelegateRef, IdentityRef
from smtpgate.admin.session import Session, operator_session
from smtpgate.gate.gate import Gate
from tests.support.dialog import Dialog
from tests.support.inprocess import MESSAGE, login, open_gate, send
from tests.support.upstream_server import open_upstream
from tests.support.world import DELEGATE, DOMAIN_NAME, OWNER
from tests.system.test_recipients import as_named
from tests.system.test_revocation import log_of

pytestmark = pytest.mark.slow

_SECTIONS: Final = "[reputation]\nmin_recipients = 10\nauto_pause = true\n"
REF: Final = DelegateRef(IdentityRef(OWNER, DOMAIN_NAME), DELEGATE)
SET: Final = ConfigurationSetRef(DELEGATE, "spring")
WITH_SET: Final = f"X-SES-CONFIGURATION-SET: spring\r\n{MESSAGE}"
RATE: Final = "its bounce rate is 50.00 %, and sending is paused from 10.00 % on"


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Gate]:
    async with (
        open_upstream() as upstream,
        open_gate(folder, port=upstream.port, sections=_SECTIONS) as (gate, _),
    ):
        upstream.answers["RCPT"] = as_named
        yield gate


def session_of(gate: Gate) -> Session:
    return operator_session(gate.config, gate.store, gate.clock, name="tester", origin="test")


async def bounce(dialog: Dialog, message: str = MESSAGE, messages: int = 6) -> None:
    """Messages to two recipients each, of which one does not exist."""
    for number in range(messages):
        to = (f"good{number}@example.net", f"bad{number}@example.net")
        assert (await send(dialog, message, to=to)).startswith("250")


async def judge(gate: Gate) -> None:
    """A round of judgements, and what the path sees of it."""
    assert gate.host.reputation is not None
    await gate.host.reputation.round()
    await gate.directory.catch_up()


async def test_an_account_whose_mail_bounces_is_paused_until_an_operator_resumes_it(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as gate:
        dialog, owner = await login(gate), await login(gate, "AKIAOWNERROOT0000000")
        await bounce(dialog)
        await judge(gate)
        assert await dialog.reply() == (
            "421 4.7.0 Sending paused for this account, closing the connection "
            f"(account-shutdown: {RATE})"
        )
        again = await login(gate)
        refusal = await send(again)
        assert refusal.startswith(
            "554 5.7.1 Message rejected: Sending paused for this account until the operator "
            f"resumes it. (account-shutdown: {RATE}; "
        )
        # The owner of the identity, by which it all was sent, goes on.
        assert (await send(owner)).startswith("250")
        (line,) = await log_of(gate, tmp_path, "reputation")
        assert (line["account"], line["status"], line["problem"]) == (
            DELEGATE,
            "SHUTDOWN",
            RATE,
        )
        assert (line["recipients"], line["bounce_rate"]) == (12, 0.5)
        shown = gate.metrics.render().decode()
        assert f'smtpgate_reputation_bounce_ratio{{account="{DELEGATE}"}} 0.5' in shown
        assert 'smtpgate_reputation_senders{kind="account",status="SHUTDOWN"} 1.0' in shown
        await reputation.resume_account(session_of(gate), DELEGATE)
        await judge(gate)
        assert (await send(again)).startswith("250")


async def test_an_owner_s_pause_of_a_delegate_stops_it_on_that_identity(tmp_path: Path) -> None:
    async with running(tmp_path) as gate:
        dialog, owner = await login(gate), await login(gate, "AKIAOWNERROOT0000000")
        assert (await send(dialog)).startswith("250")
        await reputation.pause_delegate(session_of(gate), REF, "contract over")
        await gate.directory.catch_up()
        refusal = await send(dialog)
        assert refusal.startswith(
            "554 5.7.1 Message rejected: Sending paused for this account "
        )
        assert "(delegate-paused: contract over; " in refusal
        assert (await send(owner)).startswith("250")
        await reputation.resume_delegate(session_of(gate), REF)
        await gate.directory.catch_up()
        assert (await send(dialog)).startswith("250")


@pytest.mark.slow
async def test_a_delegate_is_paused_for_its_rates_on_an_identity_whose_owner_wants_it(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as gate:
        session = session_of(gate)
        await reputation.rate_delegates(session, REF.identity, is_rated=True, auto_pause=True)
        dialog = await login(gate)
        await bounce(dialog)
        await judge(gate)
        await reputation.resume_account(session, DELEGATE)
        await gate.directory.catch_up()
        refusal = await send(await login(gate))
        assert f"(delegate-paused: {RATE}; " in refusal


@pytest.mark.slow
async def test_a_configuration_set_is_paused_and_other_mail_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path) as gate:
        session = session_of(gate)
        await configuration_sets.create(session, SET)
        await reputation.rate_set(session, SET, is_rated=True, auto_pause=True)
        await gate.directory.catch_up()
        dialog = await login(gate)
        await bounce(dialog, WITH_SET)
        # With this the account as a whole has no more than 6 bounces of 130 recipients.
        for number in range(4):
            to = tuple(f"good{number}.{one}@example.net" for one in range(30))
            assert (await send(dialog, to=to)).startswith("250")
        await judge(gate)
        refusal = await send(dialog, WITH_SET)
        assert "Sending is paused for configuration set <spring>." in refusal
        assert f"(configuration-set-paused: {RATE}; " in refusal
        assert (await send(dialog)).startswith("250")
        await configuration_sets.set_sending(session, SET, is_sending=True)
        await judge(gate)
        assert (await send(dialog, WITH_SET)).startswith("250")
