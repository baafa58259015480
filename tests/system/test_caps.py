"""The reach of an owner's caps: the ways round a cap, and the owner's own messages."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from smtpgate.core.limits import Subject
from smtpgate.directory.quotas import QuotaKey, set_quota
from smtpgate.gate.gate import Gate
from smtpgate.ports import Clock
from tests.support.clock import MovableClock
from tests.support.directory import ACTOR
from tests.support.inprocess import login, open_gate, send
from tests.support.ledgers import used_24h
from tests.support.world import DELEGATE, IDENTITY, OWNER

OWNERS: Final = {
    "ses-example.com": OWNER,
    "example.org": "777777777777",
    "own.example": DELEGATE,
}
TWO: Final = ("a@example.net", "b@example.net")
ARN: Final = "arn:aws:ses:us-east-1:{}:identity/{}"
WITH_ANY_REGION: Final = IDENTITY.replace("us-east-1", "*")


def policy(name: str, owner: str) -> str:
    """The delegate may do anything with the identity."""
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": DELEGATE},
        "Action": "ses:SendRawEmail",
        "Resource": ARN.format(owner, name),
    }
    return json.dumps({"Version": "2012-10-17", "Statement": statement})


def owner_of(name: str) -> str:
    domain = name.rpartition("@")[2].removeprefix("news.")
    return OWNERS[domain]


def tables(*names: str) -> tuple[str, dict[str, str]]:
    """Documents and files of identities that the delegate may use."""
    accounts, files = '[accounts.777777777777]\nname = "Another owner"\n', {}
    for number, name in enumerate(names):
        files[f"{number}.json"] = policy(name, owner_of(name))
        accounts += (
            f'[accounts.{owner_of(name)}.identities."{name}"]\nverified = true\n'
            f'policies = {{ all = "{number}.json" }}\n'
        )
    return accounts, files | {"marketing.json": policy("ses-example.com", OWNER)}


@asynccontextmanager
async def open_caps(
    folder: Path, *names: str, clock: Clock | None = None
) -> AsyncIterator[Gate]:
    """A gate with identities beside the domain, and grants of all to the delegate."""
    accounts, files = tables(*names)
    unsigned = "[signing]\nrequire = false"
    async with open_gate(
        folder, accounts=accounts, files=files, clock=clock, sections=unsigned
    ) as (gate, _):
        yield gate


async def cap(gate: Gate, name: str, recipients: int, **columns: object) -> Subject:
    """Cap the delegate; by what subject its recipients are counted."""
    owner = owner_of(name)
    place = QuotaKey.of_grant(owner, "us-east-1", name, DELEGATE)
    async with gate.store.changing(ACTOR) as change:
        await set_quota(change, place, {"max_24h_send": recipients, **columns})
    await gate.directory.catch_up()
    return Subject(DELEGATE, "identity", ARN.format(owner, name))


def assert_accepted(reply: str) -> None:
    assert reply.startswith("250"), reply


def written(author: str, **arns: str) -> str:
    """A message; ``source`` and so on name identities."""
    fields = (f"X-SES-{role}-ARN: {arn}\r\n" for role, arn in arns.items())
    return f"{''.join(fields)}From: {author}\r\nTo: jane@example.net\r\n\r\nHello.\r\n"


@pytest.mark.parametrize(
    ("capped", "author"),
    [
        ("marketing@ses-example.com", "marketing@ses-example.com"),
        ("marketing@ses-example.com", "marketing+spring@SES-example.com"),
        ("news.ses-example.com", "any@news.ses-example.com"),
    ],
)
async def test_the_domain_s_arn_is_no_way_round_the_cap_of_what_is_closer(
    tmp_path: Path, capped: str, author: str
) -> None:
    async with open_caps(tmp_path, capped) as gate:
        subject = await cap(gate, capped, 3)
        dialog, message = await login(gate), written(author, Source=IDENTITY)
        assert_accepted(await send(dialog, message, sender="x@ses-example.com", to=TWO))
        reply = await send(dialog, message, sender="x@ses-example.com", to=TWO)
        assert f"(max-24h-send: {subject}: 1 of 3 recipients left" in reply


@pytest.mark.parametrize("name", ["marketing@ses-example.com", "news.ses-example.com"])
async def test_what_is_closer_has_caps_of_its_own(tmp_path: Path, name: str) -> None:
    async with open_caps(tmp_path, name) as gate:
        subject = await cap(gate, "ses-example.com", 3)
        address = name if "@" in name else f"any@{name}"
        dialog, arn = await login(gate), ARN.format(OWNER, name)
        for _ in range(2):
            message = written(address, Source=arn)
            assert_accepted(await send(dialog, message, sender=address, to=TWO))
        assert await used_24h(gate.ledger, subject, gate.clock.now()) == 0


async def test_an_address_in_other_letters_is_another_address(tmp_path: Path) -> None:
    async with open_caps(tmp_path, "marketing@ses-example.com") as gate:
        await cap(gate, "marketing@ses-example.com", 0)
        message = written("Marketing@ses-example.com", Source=IDENTITY)
        assert_accepted(await send(await login(gate), message, sender="x@ses-example.com"))


ROLES: Final[list[tuple[str, str, dict[str, str]]]] = [
    ("any+label@ses-example.com", "x@ses-example.com", {"Source": IDENTITY}),
    ("any@sub.ses-example.com", "x@ses-example.com", {"From": IDENTITY}),
    ("any@ses-example.com", "", {"From": IDENTITY}),
    ("any@ses-example.com, other@ses-example.com", "", {}),
    ("any@ses-example.com", "x@ses-example.com", {"Source": WITH_ANY_REGION}),
    ("own@own.example", "x@ses-example.com", {"Source": IDENTITY}),
    ("own@own.example", "x@ses-example.com", {"Return-Path": IDENTITY}),
    ("own@own.example\r\nSender: x@ses-example.com", "own@own.example", {}),
]


async def test_a_cap_counts_a_message_once_in_whatever_roles(tmp_path: Path) -> None:
    async with open_caps(tmp_path, "own.example") as gate:
        for before, (author, sender, arns) in zip(count(0, 2), ROLES, strict=False):
            subject = await cap(gate, "ses-example.com", before + 3)
            dialog, message = await login(gate), written(author, **arns)
            assert_accepted(await send(dialog, message, sender=sender, to=TWO))
            used = await used_24h(gate.ledger, subject, gate.clock.now())
            assert used == before + 2, (author, sender, arns)
            reply = await send(dialog, message, sender=sender, to=TWO)
            left = f"(max-24h-send: {subject}: 1 of {before + 3} recipients left"
            assert left in reply, (author, sender, arns)


async def test_two_owners_caps_hold_together(tmp_path: Path) -> None:
    async with open_caps(tmp_path, "example.org") as gate:
        wide = await cap(gate, "ses-example.com", 9)
        tight = await cap(gate, "example.org", 3)
        dialog, message = await login(gate), written("any@ses-example.com")
        assert_accepted(await send(dialog, message, sender="x@example.org", to=TWO))
        reply = await send(dialog, message, sender="x@example.org", to=TWO)
        assert f"(max-24h-send: {tight}: 1 of 3 recipients left" in reply
        now = gate.clock.now()
        assert await used_24h(gate.ledger, wide, now) == 2, "all count, or none"
        assert_accepted(await send(dialog, message, sender="x@ses-example.com", to=TWO))


async def test_a_raised_cap_ends_though_nothing_is_read_again(tmp_path: Path) -> None:
    clock = MovableClock(datetime.now(UTC))
    async with open_caps(tmp_path, clock=clock) as gate:
        subject = await cap(gate, "ses-example.com", 2)
        until = clock.now() + timedelta(minutes=5)
        await cap(gate, "ses-example.com", 2, raised_24h_send=9, raised_until=until)
        dialog, message = await login(gate), written("any@ses-example.com")
        assert_accepted(await send(dialog, message, sender="", to=TWO))
        assert_accepted(await send(dialog, message, sender="", to=TWO))
        clock.move(299)
        assert_accepted(await send(dialog, message, sender="", to=TWO))
        clock.move(1)
        reply = await send(dialog, message, sender="", to=TWO)
        assert f"(max-24h-send: {subject}: 0 of 2 recipients left" in reply
        assert await used_24h(gate.ledger, subject, clock.now()) == 6
