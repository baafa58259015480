"""The audit log: a line for each step, in order, without secrets, and for ever."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

import pytest

from smtpgate.directory.change import Actor, AuditSubject, Change
from smtpgate.directory.identities import delete_identity
from smtpgate.directory.keys import delete_access_key
from smtpgate.directory.policies import delete_policy, put_policy
from smtpgate.directory.store import DirectoryStore
from smtpgate.directory.users import delete_user
from smtpgate.ports import DirectoryUnavailableError
from smtpgate.signing.private_keys import generate_private_key
from tests.support.clock import MovableClock
from tests.support.directory import ACTOR, open_store
from tests.support.tenants import (
    ACME,
    add_account,
    add_identity,
    add_key,
    add_user,
    identity_place,
    notes,
    raw,
    sender_policy,
    signing_key,
)

SECRET: Final = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
SAYS: Final = "the audit log is append-only"


async def test_every_step_has_its_line_in_order(
    store: DirectoryStore, clock: MovableClock
) -> None:
    await add_account(store)
    await add_user(store)
    key = await add_key(store, user_name="mailer", secret=SECRET)
    identity = await add_identity(store)
    await signing_key(store)
    async with store.changing(Actor("alice", "api from 192.0.2.7")) as change:
        await put_policy(change, identity_place(), "send", sender_policy())
        await delete_policy(change, identity_place(), "send")
        await delete_access_key(change, key.id)
        await delete_user(change, ACME, "mailer")
        await delete_identity(change, identity, store.partition)
    lines = await notes(store)
    assert [(line.action, line.kind, line.name) for line in lines] == [
        ("create", "account", ""),
        ("create", "user", "mailer"),
        ("put-policy", "user", "mailer"),
        ("create", "key", key.id),
        ("create", "identity", "example.com"),
        ("add-dkim-key", "identity", "example.com"),
        ("put-policy", "identity", "example.com"),
        ("delete-policy", "identity", "example.com"),
        ("delete", "key", key.id),
        ("delete-policy", "user", "mailer"),
        ("delete", "user", "mailer"),
        ("delete", "identity", "example.com"),
    ]
    assert {line.account_id for line in lines} == {ACME}
    actors = {(line.actor, line.origin) for line in lines[-6:]}
    assert actors == {("alice", "api from 192.0.2.7")}
    assert {line.at for line in lines} == {clock.now()}


async def test_no_secret_is_in_any_table_in_clear(store: DirectoryStore) -> None:
    pem = generate_private_key("rsa")
    await add_account(store)
    await add_user(store)
    await add_key(store, user_name="mailer", secret=SECRET)
    await add_identity(store)
    await signing_key(store, pem=pem)
    inside = pem.decode().splitlines()[5]
    for table in ("audit_log", "access_keys", "dkim_keys", "policy_versions"):
        rows = await raw(store, f"SELECT * FROM {table}")
        assert rows
        for row in rows:
            shown = repr(tuple(row))
            assert SECRET not in shown
            assert inside not in shown


STATEMENTS: Final = (
    "UPDATE audit_log SET actor = 'nobody'",
    "UPDATE audit_log SET seq = seq + 1000",
    "DELETE FROM audit_log",
    "DELETE FROM audit_log WHERE action = 'create'",
)


async def test_nobody_changes_what_was_written(store: DirectoryStore) -> None:
    await add_account(store)
    before = await notes(store)
    # SQLite knows no TRUNCATE; its DELETE without a condition is one.
    truncate = () if store.database.is_sqlite else ("TRUNCATE audit_log",)
    for statement in (*STATEMENTS, *truncate):
        with pytest.raises(DirectoryUnavailableError, match=SAYS):
            await raw(store, statement)
        assert await notes(store) == before


async def test_a_line_that_takes_anothers_place_is_refused(store: DirectoryStore) -> None:
    await add_account(store)
    before = await notes(store)
    is_sqlite = store.database.is_sqlite
    verb = "INSERT OR REPLACE" if is_sqlite else "INSERT"
    end = "" if is_sqlite else " ON CONFLICT (seq) DO UPDATE SET actor = excluded.actor"
    statement = (
        f"{verb} INTO audit_log (seq, at, actor, origin, action, kind, account_id, name) "
        f"SELECT seq, at, 'nobody', origin, action, kind, account_id, name FROM audit_log "
        f"WHERE 1 = 1{end}"
    )
    with pytest.raises(DirectoryUnavailableError, match=SAYS):
        await raw(store, statement)
    assert await notes(store) == before


async def test_numbers_become_visible_in_their_order(store: DirectoryStore) -> None:
    """Else who follows the log would pass over a change that was committed a little later."""
    url = store.database.url.render_as_string(hide_password=False)
    seen: list[int] = []
    async with open_store(url) as one, open_store(url) as other:

        async def add(number: int) -> None:
            await add_account(one if number % 2 else other, f"{number:012}")

        adding = asyncio.gather(*(add(number) for number in range(24)))
        while not adding.done():
            async with store.reading() as connection:
                found = await connection.exec_driver_sql("SELECT seq FROM audit_log")
                now = sorted(row.seq for row in found)
            assert now[: len(seen)] == seen
            seen = now
        await adding
    assert len(await notes(store)) == 24


async def test_moments_are_kept_to_the_microsecond_and_in_utc(store: DirectoryStore) -> None:
    zone = timezone(timedelta(hours=5.5))
    moment = datetime(2026, 3, 29, 2, 30, 0, 123456, tzinfo=zone)
    async with store.database.changing() as connection:
        await Change(connection, ACTOR, moment).note("create", AuditSubject("account", ACME))
    (line,) = await notes(store)
    assert line.at == moment
    assert line.at.tzinfo is UTC


async def test_texts_of_any_script_are_kept(store: DirectoryStore) -> None:
    facts = {"name": "ßøλ中☃🏔", "list": [1, None, True, 2.5], "quote": "'\"\\; DROP TABLE x --"}
    async with store.changing(Actor("ålice'; --", "ünter\\wegs")) as change:
        await change.note(
            "create", AuditSubject("user", ACME, "x'y"), before=facts, after=facts
        )
    (line,) = await notes(store)
    assert (line.actor, line.origin, line.name) == ("ålice'; --", "ünter\\wegs", "x'y")
    assert line.before == line.after == facts


async def test_a_change_that_cannot_be_noted_is_not_made(store: DirectoryStore) -> None:
    await add_account(store)
    if store.database.is_sqlite:
        trigger = "BEGIN SELECT RAISE(ABORT, 'no_more'); END"
        await raw(store, f"CREATE TRIGGER no_more BEFORE INSERT ON audit_log {trigger}")
    else:
        await raw(store, "ALTER TABLE audit_log ADD CONSTRAINT no_more CHECK (seq < 2)")
    with pytest.raises(DirectoryUnavailableError, match="no_more"):
        await add_user(store)
    assert not await raw(store, "SELECT * FROM users")
