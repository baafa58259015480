"""Refusals are work too: an account whose messages are all refused is slowed, then deferred."""

import asyncio
from pathlib import Path
from typing import Final

import pytest

from tests.support.clock import MovableClock
from tests.support.inprocess import ARNS, login, open_gate, send
from tests.support.upstream_server import open_upstream

pytestmark = pytest.mark.slow

DENIED = f"{ARNS}From: Sales <sales@ses-example.com>\r\nSubject: x\r\n\r\nHello.\r\n"
AT_ONCE: Final = 50  # rows of an account's refused messages; 500 in the program
LIMITS = "[limits]\nmax_refusals = 4\nrefusals_per_minute = 1\nrefusal_delay_s = 0.05\n"


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtpgate.journal.entries._REFUSALS_AT_ONCE", AT_ONCE)


async def refused_after(dialog: object) -> float:
    """The time of a refusal."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    reply = await send(dialog, DENIED)  # type: ignore[arg-type]
    assert reply.startswith("554 5.7.1 Access denied"), reply
    return loop.time() - started


async def test_an_account_that_is_refused_again_and_again_is_slowed_and_then_deferred(
    tmp_path: Path, clock: MovableClock
) -> None:
    async with open_gate(tmp_path, clock=clock, sections=LIMITS) as (gate, _):
        dialog, second = await login(gate), await login(gate)
        other = await login(gate, "AKIAOWNERROOT0000000")
        for _ in range(2):
            await refused_after(dialog)
        for _ in range(2):
            assert await refused_after(dialog) >= 0.05
        for one in (dialog, second):
            reply = await one.say("MAIL FROM:<marketing@ses-example.com>")
            assert reply.startswith("421 4.7.0 Too many messages of this account were refused")
            assert await one.is_closed()
        assert (await send(other)).startswith("250"), "another account is not put off"
        clock.move(60)
        assert (await send(await login(gate))).startswith("250"), "one has come back"


async def test_refusals_of_the_upstream_are_no_fault_of_the_account(
    tmp_path: Path, clock: MovableClock
) -> None:
    async with (
        open_upstream() as upstream,
        open_gate(tmp_path, clock=clock, port=upstream.port, sections=LIMITS) as (gate, _),
    ):
        upstream.answers["RCPT"] = "550 5.1.1 no such user"
        dialog = await login(gate)
        for number in range(10):  # nobody twice: an address that bounces is suppressed
            reply = await send(dialog, to=(f"jane{number}@example.net",))
            assert reply.startswith("550 5.1.1 no such user")
        upstream.answers.clear()
        assert (await send(dialog)).startswith("250")


@pytest.mark.usefixtures("few_rows")
async def test_messages_that_nobody_can_sign_are_deferred_too_and_leave_few_rows(
    tmp_path: Path, clock: MovableClock
) -> None:
    no_key = ('dkim = [{ selector = "test", key_file = "dkim.pem" }]\n', "")
    limits = f"[limits]\nmax_refusals = {AT_ONCE + 3}\nrefusals_per_minute = 1\n"
    limits += "refusal_delay_s = 0\n"
    async with open_gate(tmp_path, clock=clock, sections=limits, replace=no_key) as (gate, _):
        dialog = await login(gate)
        for _ in range(AT_ONCE + 3):
            assert (await send(dialog)).startswith("451 4.7.5")
        assert gate.journal.tally.left_out == 3  # type: ignore[union-attr]
        assert (await send(dialog)).startswith("421 4.7.0 Too many messages of this account")


@pytest.mark.usefixtures("few_rows")
async def test_refused_messages_push_no_other_accounts_rows_out(
    tmp_path: Path, clock: MovableClock
) -> None:
    """So many leave rows at once, and then one a minute; all are in the log."""
    limits = "[limits]\nmax_refusals = 10000\n"
    async with open_gate(tmp_path, clock=clock, sections=limits) as (gate, _):
        dialog = await login(gate)
        for _ in range(AT_ONCE + 3):
            await send(dialog, DENIED)
        journal = gate.journal
        assert journal.tally.left_out == 3  # type: ignore[union-attr]
        assert (await send(dialog)).startswith("250")
        assert (await send(await login(gate, "AKIAOWNERROOT0000000"), DENIED)).startswith("250")
        assert journal.tally.left_out == 3  # type: ignore[union-attr]
        clock.move(61)
        await send(dialog, DENIED)
        assert journal.tally.left_out == 3  # type: ignore[union-attr]
    text = (tmp_path / "log").read_text()
    assert text.count('"reason":"implicit-deny"') == AT_ONCE + 4
