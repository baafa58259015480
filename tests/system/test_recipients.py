"""Recipients that the upstream defers, or refuses without an outbox: the client splits."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from smtpgate.core.limits import Subject
from smtpgate.gate.gate import Gate
from tests.support.clock import MovableClock
from tests.support.dialog import Dialog
from tests.support.inprocess import login, open_gate
from tests.support.ledgers import used_24h
from tests.support.upstream_server import UpstreamServer, open_upstream
from tests.support.world import DELEGATE

GOOD, OTHER, BAD, BUSY = (f"{name}@example.net" for name in ("good", "other", "bad", "busy"))
GONE_REPLY = "550 5.1.1 no such user"
BUSY_REPLY = "450 4.2.0 mailbox busy"
ACCOUNT = Subject(DELEGATE)


def as_named(command: str) -> str:
    """The answer to RCPT that a recipient's name stands for."""
    if "bad" in command:
        return GONE_REPLY
    return BUSY_REPLY if "busy" in command else "250 2.1.5 ok"


@asynccontextmanager
async def relaying(
    folder: Path,
    *extensions: str,
    clock: MovableClock | None = None,
    gate: str = "",
    outbox: bool = True,
) -> AsyncIterator[tuple[Gate, UpstreamServer]]:
    sections = "" if outbox else "[outbox]\nenabled = false\n"
    async with (
        open_upstream(*extensions) as upstream,
        open_gate(folder, port=upstream.port, clock=clock, gate=gate, sections=sections) as (
            made,
            _,
        ),
    ):
        upstream.answers["RCPT"] = as_named
        yield made, upstream


async def try_all(
    dialog: Dialog, *to: str, sender: str = "marketing@ses-example.com"
) -> list[str]:
    """Send to those that are accepted at RCPT; the replies to RCPT, and the message's."""
    assert (await dialog.say(f"MAIL FROM:<{sender}>")).startswith("250")
    replies = [await dialog.say(f"RCPT TO:<{one}>") for one in to]
    if not any(reply.startswith("250") for reply in replies):
        await dialog.say("RSET")
        return replies
    assert (await dialog.say("DATA")).startswith("354")
    await dialog.send(
        b"From: Marketing <marketing@ses-example.com>\r\nSubject: Spring\r\n\r\nHello.\r\n.\r\n"
    )
    return [*replies, await dialog.reply()]


@pytest.mark.parametrize("extensions", [(), ("PIPELINING",)], ids=["lock step", "pipelined"])
async def test_one_bad_recipient_costs_one_more_try_and_no_other_recipient(
    tmp_path: Path, extensions: tuple[str, ...]
) -> None:
    async with relaying(tmp_path, *extensions, outbox=False) as (gate, upstream):
        dialog = await login(gate)
        *_, first = await try_all(dialog, GOOD, BAD, OTHER)
        assert first.startswith(
            f"451 4.5.0 Message not sent: the next server rejected <{BAD}> ({GONE_REPLY}). "
        )
        assert GOOD not in first
        assert not upstream.messages
        assert await used_24h(gate.ledger, ACCOUNT, gate.clock.now()) == 0
        good, bad, other, verdict = await try_all(dialog, GOOD, BAD, OTHER)
        assert good == other == "250 2.1.5 Ok"
        assert bad.startswith(f"{GONE_REPLY} (upstream-reply; 0100")
        assert verdict.startswith("250")
        (message,) = upstream.messages
        assert b"Hello." in message
        assert await used_24h(gate.ledger, ACCOUNT, gate.clock.now()) == 2


async def test_a_deferred_recipient_holds_back_nobody_else_and_is_asked_again_by_itself(
    tmp_path: Path, clock: MovableClock
) -> None:
    async with relaying(tmp_path, clock=clock) as (gate, upstream):
        dialog = await login(gate)
        *_, first = await try_all(dialog, GOOD, BUSY)
        assert first.startswith(
            f"451 4.5.0 Message not sent: the next server deferred <{BUSY}>"
        )
        _, busy, verdict = await try_all(dialog, GOOD, BUSY)
        assert busy.startswith(BUSY_REPLY)
        assert verdict.startswith("250")
        clock.move(300)
        upstream.answers["RCPT"] = "250 2.1.5 not busy any more"
        accepted, verdict = await try_all(dialog, BUSY)
        assert accepted.startswith("250")
        assert verdict.startswith("250")
        assert len(upstream.messages) == 2


@pytest.mark.parametrize("ending", ["RSET", "QUIT", "EHLO client.example", ""])
async def test_a_client_that_gives_up_at_a_deferred_recipient_is_not_kept_from_it_for_hours(
    tmp_path: Path, clock: MovableClock, ending: str
) -> None:
    # Some clients do not split a message: each try ends where a recipient is refused.
    async with relaying(tmp_path, clock=clock) as (gate, upstream):
        dialog = await login(gate)
        await try_all(dialog, GOOD, BUSY)
        await dialog.say("MAIL FROM:<marketing@ses-example.com>")
        assert (await dialog.say(f"RCPT TO:<{GOOD}>")).startswith("250")
        assert (await dialog.say(f"RCPT TO:<{BUSY}>")).startswith(BUSY_REPLY)
        if ending:
            await dialog.say(ending)
        await dialog.close()
        await gate.sessions.finish(5)
        clock.move(120)
        upstream.answers["RCPT"] = "250 2.1.5 not busy any more"
        replies = await try_all(await login(gate), GOOD, BUSY)
        assert [reply[:3] for reply in replies] == ["250"] * 3


async def test_of_several_that_are_refused_each_gets_its_own_answer(tmp_path: Path) -> None:
    async with relaying(tmp_path, outbox=False) as (gate, upstream):
        dialog = await login(gate)
        *_, first = await try_all(dialog, BAD, BUSY)
        assert first.startswith("451")
        bad, busy = await try_all(dialog, BAD, BUSY)
        assert bad.startswith(GONE_REPLY)
        assert busy.startswith(BUSY_REPLY)
        assert not upstream.messages


async def test_all_refused_for_good_have_the_upstreams_reply_at_once(tmp_path: Path) -> None:
    async with relaying(tmp_path) as (gate, _):
        *_, reply = await try_all(await login(gate), BAD, "bad2@example.net")
        assert reply.startswith(GONE_REPLY)


async def test_what_is_remembered_is_of_one_account_one_sender_and_a_while(
    tmp_path: Path, clock: MovableClock
) -> None:
    async with relaying(tmp_path, clock=clock, outbox=False) as (gate, _):
        dialog, owner = await login(gate), await login(gate, "AKIAOWNERROOT0000000")
        await try_all(dialog, GOOD, BAD)
        ask = (f"RCPT TO:<{BAD}>",)
        for asking, sender, answer in (
            (dialog, "marketing@ses-example.com", "550"),
            (dialog, "marketing+other@ses-example.com", "250"),
            (owner, "marketing@ses-example.com", "250"),
        ):
            assert (await asking.say(f"MAIL FROM:<{sender}>")).startswith("250")
            assert (await asking.say(*ask)).startswith(answer)
            await asking.say(f"RCPT TO:<{GOOD}>")
            await asking.say("RSET")
        clock.move(7200)
        await dialog.say("MAIL FROM:<marketing@ses-example.com>")
        assert (await dialog.say(*ask)).startswith("250")


async def test_a_client_with_many_refused_recipients_is_not_ended_for_errors(
    tmp_path: Path,
) -> None:
    async with relaying(tmp_path, outbox=False) as (gate, upstream):
        dialog = await login(gate)
        bad = [f"bad{number}@example.net" for number in range(40)]
        assert (await try_all(dialog, GOOD, *bad))[-1].startswith("451")
        assert (await try_all(dialog, GOOD, *bad))[-1].startswith("250")
        assert len(upstream.messages) == 1


def takes(limit: int, refusal: str, upstream: UpstreamServer) -> Callable[[str], str]:
    """An answer to RCPT of a server that takes so many recipients at once."""
    taken: list[str] = []

    def mail(_: str) -> str:
        taken.clear()
        return "250 2.1.0 ok"

    def rcpt(command: str) -> str:
        taken.append(command)
        return "250 2.1.5 ok" if len(taken) <= limit else refusal

    upstream.answers["MAIL"] = mail
    return rcpt


@pytest.mark.parametrize("refusal", ["452 4.5.3 too many recipients", "552 5.5.3 too many"])
async def test_the_number_of_recipients_that_the_upstream_takes_is_learned(
    tmp_path: Path, clock: MovableClock, refusal: str
) -> None:
    to = [f"r{number}@example.net" for number in range(12)]
    async with relaying(tmp_path, clock=clock) as (gate, upstream):
        upstream.answers["RCPT"] = takes(10, refusal, upstream)
        dialog = await login(gate)
        assert (await try_all(dialog, *to))[-1].startswith("451 4.5.0 Message not sent")
        *replies, verdict = await try_all(dialog, *to)
        assert [reply[:3] for reply in replies] == ["250"] * 10 + ["452"] * 2
        assert replies[-1].startswith("452 4.5.3 ")
        assert verdict.startswith("250")
        assert (await try_all(dialog, *to[10:]))[-1].startswith("250")
        assert len(upstream.messages) == 2
        clock.move(3601)
        assert gate.upstream.pools["sink"].max_recipients is None, "a limit may be raised"


async def test_the_limits_that_the_upstream_announces_are_passed_on_and_kept(
    tmp_path: Path, clock: MovableClock
) -> None:
    to = ["a@example.net", "b@example.net", "c@example.org", "d@example.net"]
    async with relaying(tmp_path, clock=clock) as (gate, upstream):
        upstream.offers = (*upstream.offers, "LIMITS MAILMAX=2 RCPTMAX=3 RCPTDOMAINMAX=1")
        dialog = await login(gate)
        # Before the first connection nobody knows; nothing is sent, and the next try is right.
        assert (await try_all(dialog, *to))[-1].startswith("451 4.5.0 Message not sent")
        assert upstream.messages == []
        *replies, verdict = await try_all(dialog, *to)
        assert [reply[:3] for reply in replies] == ["250", "250", "452", "250"]
        assert replies[2].startswith("452 4.5.3 Too many domains of recipients: at most 1 ")
        assert verdict.startswith("250")
        assert (await try_all(dialog, to[2]))[-1].startswith("250")
        assert (await try_all(dialog, to[2]))[-1].startswith("250")
        assert [visit.verbs.count("MAIL") for visit in upstream.visits] == [2, 1]
        assert "LIMITS RCPTMAX=3 RCPTDOMAINMAX=1" in await dialog.say("EHLO client.example.com")
