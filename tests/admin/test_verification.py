"""Verification on request: when another process is faster, and when mail cannot be sent."""

import email.policy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from email import message_from_bytes

import pytest

from smtpgate.admin.errors import CodeNotSentError, OvertakenError, RefusedChangeError
from smtpgate.admin.identities import create, delete
from smtpgate.admin.mail_codes import CodeMailer, confirm_code
from smtpgate.admin.refs import IdentityRef
from smtpgate.admin.retry import change_registered
from smtpgate.admin.verification import send_code, vouch
from smtpgate.core.proof.registered import Registered
from smtpgate.core.secret import Secret
from smtpgate.directory.identities import identity, update_identity
from smtpgate.directory.registered_identities import DirectoryIdentities
from smtpgate.directory.store import DirectoryStore
from tests.support.admin import root, session_of
from tests.support.clock import MovableClock
from tests.support.directory import ACTOR
from tests.support.tenants import ACME, add_account, add_identity, notes
from tests.support.upstream_server import HANG_UP, UpstreamServer, open_upstream, relay_to
from tests.support.world import REGION

ADDRESS = "me@example.com"


@pytest.fixture
def registry(store: DirectoryStore) -> DirectoryIdentities:
    """The identities' proofs."""
    return DirectoryIdentities(store, ACTOR, "test")


async def pause(store: DirectoryStore, name: str) -> None:
    """A change by another caller."""
    async with store.changing(ACTOR) as change:
        row = await identity(change.connection, ACME, REGION, name)
        token = f"{row.token}x"
        await update_identity(change, row, {"token": token}, action="other")


async def test_a_decision_is_made_again_when_another_process_was_faster(
    store: DirectoryStore, registry: DirectoryIdentities, clock: MovableClock
) -> None:
    await add_account(store)
    await add_identity(store, token="t")
    seen: list[str] = []

    async def decide(before: Registered) -> Registered:
        seen.append(before.token)
        if len(seen) == 1:
            await pause(store, before.name)
        return replace(before, verification=replace(before.verification, problem="decided"))

    after = await change_registered(registry, ACME, "example.com", decide)
    assert seen == ["t", "tx"]
    assert after == await registry.one(ACME, "example.com")
    assert after.verification.problem == "decided"


async def test_who_is_always_overtaken_gives_up_and_has_changed_nothing(
    store: DirectoryStore, registry: DirectoryIdentities
) -> None:
    await add_account(store)
    await add_identity(store)

    async def decide(before: Registered) -> Registered:
        await pause(store, before.name)
        return replace(before, verification=replace(before.verification, problem="decided"))

    with pytest.raises(OvertakenError, match="is being changed by other processes; try again"):
        await change_registered(registry, ACME, "example.com", decide)
    assert (await registry.one(ACME, "example.com")).verification.problem == ""


async def test_what_stays_as_it_is_is_not_written(
    store: DirectoryStore, registry: DirectoryIdentities, clock: MovableClock
) -> None:
    await add_account(store)
    await add_identity(store, method="trust", verified_at=clock.now(), started_at=clock.now())
    before = await notes(store)
    _ = await vouch(session_of(store, clock=clock), IdentityRef(ACME, "example.com"))
    assert await notes(store) == before


# -- codes -------------------------------------------------------------------------------------


@asynccontextmanager
async def mailer(
    store: DirectoryStore, registry: DirectoryIdentities, clock: MovableClock
) -> AsyncIterator[tuple[UpstreamServer, CodeMailer]]:
    """The sender of codes for an address that waits for one."""
    await add_account(store)
    await add_identity(store, ADDRESS, state="not-started", method=None)
    async with open_upstream() as server, relay_to(server, clock=clock) as upstream:
        yield (
            server,
            CodeMailer(
                registry=registry,
                upstream=upstream,
                hostname="gate.example.com",
                now=clock.now(),
            ),
        )


async def send(sender: CodeMailer, account_name: str = "Acme") -> Registered:
    return await sender.send(ACME, ADDRESS, account_name=account_name, asked_by="jane")


async def test_a_code_whose_mail_is_in_doubt_is_void(
    store: DirectoryStore, registry: DirectoryIdentities, clock: MovableClock
) -> None:
    async with mailer(store, registry, clock) as (server, sender):
        before = await registry.one(ACME, ADDRESS)
        server.answers["MESSAGE"] = HANG_UP
        with pytest.raises(CodeNotSentError, match="did not confirm the mail"):
            await send(sender)
        assert await registry.one(ACME, ADDRESS) == before


async def test_a_code_sent_later_makes_the_one_before_it_worthless(
    store: DirectoryStore, registry: DirectoryIdentities, clock: MovableClock
) -> None:
    async with mailer(store, registry, clock) as (server, sender):
        _ = await send(sender)
        clock.move(60)
        _ = await send(replace(sender, now=clock.now()))
        first, second = (
            message_from_bytes(message, policy=email.policy.default)
            .get_content()
            .partition("    ")[2]
            .partition("\n")[0]
            for message in server.messages
        )

        async def attempt(code: str) -> str | None:
            outcome, _ = await confirm_code(registry, ACME, ADDRESS, Secret(code), clock.now())
            return outcome

        assert await attempt(first) == "wrong"
        assert await attempt(second) == "right"
        assert (await registry.one(ACME, ADDRESS)).verification.method == "mail"
        assert await attempt(second) is None


async def test_names_in_any_script_arrive_as_they_are(
    store: DirectoryStore, registry: DirectoryIdentities, clock: MovableClock
) -> None:
    async with mailer(store, registry, clock) as (server, sender):
        _ = await send(sender, account_name="Größe\r\nBcc: x@example.net")
    (message,) = server.messages
    assert message.isascii()
    parsed = message_from_bytes(message, policy=email.policy.default)
    assert "(Größe??Bcc: x@example.net)" in parsed.get_content()
    assert parsed["Bcc"] is None
    assert timedelta(0) == clock.now() - parsed["Date"].datetime


async def test_an_account_gets_one_code_a_minute_mailed_to_an_address_also_after_deleting_it(
    store: DirectoryStore, clock: MovableClock
) -> None:
    await add_account(store)
    ref, session = IdentityRef(ACME, ADDRESS), session_of(store, root(ACME), clock=clock)
    async with open_upstream() as server, relay_to(server) as upstream:
        _ = await create(session, ref)
        _ = await send_code(session, ref, upstream)
        with pytest.raises(RefusedChangeError, match="less than a minute ago"):
            await delete(session, ref)
        clock.move(60)
        await delete(session, ref)
        _ = await create(session, ref)
        _ = await send_code(session, ref, upstream)
        await delete(session_of(store, clock=clock), ref)


async def test_an_account_has_a_bounded_number_of_codes_mailed_a_day(
    store: DirectoryStore, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smtpgate.admin.verification._MAX_CODES_A_DAY", 2)
    await add_account(store)
    session = session_of(store, root(ACME), clock=clock)
    refs = [IdentityRef(ACME, f"me{number}@example.com") for number in range(3)]
    async with open_upstream() as server, relay_to(server) as upstream:
        for ref in refs:
            _ = await create(session, ref)
        for ref in refs[:2]:
            _ = await send_code(session, ref, upstream)
        with pytest.raises(RefusedChangeError, match="mailed to 2 addresses within 24 hours"):
            _ = await send_code(session, refs[2], upstream)
        clock.move(timedelta(days=1, seconds=1).total_seconds())
        _ = await send_code(session, refs[2], upstream)
    assert len(server.messages) == 3
