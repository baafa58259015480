"""``smtpgate key``: access keys made, shown once, limited, revoked and deleted."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from smtpgate.clock import SystemClock
from smtpgate.core.secret import Secret, smtp_password
from smtpgate.core.watch.profile import Observation, record
from smtpgate.directory.key_watch import encode
from tests.support.desk import Desk
from tests.support.journal import journal_in, open_journal, submission
from tests.support.rows import rows
from tests.support.world import DELEGATE, MAILER, OWNER


@pytest.fixture(scope="module")
def furnished(two_accounts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two accounts, and a user of the delegate."""
    desk = Desk(tmp_path_factory.mktemp("furnished"), two_accounts)
    desk.says("user", "create", MAILER)
    return desk.database


def test_a_new_key_is_shown_once_with_the_password_that_its_secret_makes(stocked: Desk) -> None:
    made = stocked.answers("key", "create", MAILER)
    password = smtp_password(Secret(made["secret"]), "us-east-1")
    assert made["smtp_password"] == password.value
    assert (made["account"], made["user"], made["status"]) == (DELEGATE, "mailer", "active")
    for words in (("key", "show", made["id"]), ("key", "list"), ("user", "show", MAILER)):
        for shown in (stocked.says(*words), stocked.says(*words, "--json")):
            assert made["secret"] not in shown
            assert made["smtp_password"] not in shown


def test_people_are_reported_id_secret_and_password(stocked: Desk) -> None:
    card = stocked.says("key", "create", DELEGATE)
    lines = dict(line.strip().rsplit(maxsplit=1) for line in card.splitlines()[:5])
    assert lines["access key"] == lines["SMTP user name"]
    assert lines["of"] == DELEGATE
    assert smtp_password(Secret(lines["secret"]), "us-east-1").value == lines["SMTP password"]


def test_a_key_may_end_and_be_bound_to_networks(stocked: Desk) -> None:
    networks = ("--from", "192.0.2.0/24", "--from", "2001:db8::/32")
    made = stocked.answers("key", "create", MAILER, "--expires", "90d", *networks)
    ends = datetime.fromisoformat(made["expires_at"])
    assert timedelta(days=89) < ends - datetime.now(UTC) < timedelta(days=91)
    assert made["networks"] == ["192.0.2.0/24", "2001:db8::/32"]
    stocked.says("key", "set", made["id"], "--expires", "2099-01-31", "--from-anywhere")
    shown = stocked.answers("key", "show", made["id"])
    assert (shown["expires_at"], shown["networks"]) == ("2099-01-31T00:00:00Z", [])
    stocked.says("key", "set", made["id"], "--never-expires", "--from", "198.51.100.7")
    shown = stocked.answers("key", "show", made["id"])
    assert (shown["expires_at"], shown["networks"]) == (None, ["198.51.100.7/32"])


def test_a_key_may_need_a_client_certificate(stocked: Desk) -> None:
    one, other = (f"sha256:{at:064x}" for at in (1, 2))
    made = stocked.answers("key", "create", MAILER, "--certificate", one)
    assert made["certificates"] == [one]
    stocked.says("key", "set", made["id"], "--certificate", one, "--certificate", other)
    assert stocked.answers("key", "show", made["id"])["certificates"] == [one, other]
    (listed,) = [key for key in stocked.answers("key", "list") if key["id"] == made["id"]]
    assert listed["certificates"] == [one, other]
    assert other in stocked.says("key", "show", made["id"])
    stocked.says("key", "set", made["id"], "--no-certificate")
    assert stocked.answers("key", "show", made["id"])["certificates"] == []


def test_a_key_is_disabled_and_enabled(stocked: Desk) -> None:
    key_id = stocked.answers("key", "create", MAILER)["id"]
    stocked.says("key", "disable", key_id)
    assert stocked.answers("key", "show", key_id)["status"] == "disabled"
    stocked.says("key", "enable", key_id)
    assert stocked.answers("key", "show", key_id)["status"] == "active"


def test_a_third_active_key_is_one_too_many(stocked: Desk) -> None:
    first, _ = (stocked.answers("key", "create", MAILER)["id"] for _ in range(2))
    assert "2 active access keys" in stocked.refuses("key", "create", MAILER)
    stocked.says("key", "disable", first)
    stocked.says("key", "create", MAILER)
    assert "2 active access keys" in stocked.refuses("key", "enable", first)


def test_a_key_is_deleted(stocked: Desk) -> None:
    key_id = stocked.answers("key", "create", MAILER)["id"]
    assert "for good: say --yes" in stocked.refuses("key", "delete", key_id, status=2)
    stocked.says("key", "delete", key_id, "--yes")
    assert f"there is no access key {key_id}" in stocked.refuses("key", "show", key_id)


def found(rows: list[dict[str, Any]]) -> set[str]:
    return {row["id"] for row in rows}


def test_keys_are_listed_by_owner_status_and_last_use(stocked: Desk) -> None:
    users = stocked.answers("key", "create", MAILER)["id"]
    roots = stocked.answers("key", "create", DELEGATE)["id"]
    owners = stocked.answers("key", "create", OWNER)["id"]
    stocked.says("key", "disable", roots)

    def listed(*options: str) -> set[str]:
        return found(stocked.answers("key", "list", *options))

    assert listed() == {users, roots, owners}
    assert listed("--owner", DELEGATE) == {users, roots}
    assert listed("--owner", MAILER) == {users}
    assert listed("--status", "active") == {users, owners}
    assert listed("--status", "disabled") == {roots}
    assert listed("--unused-for", "1h") == set()
    assert listed("--unused-for", "2099-01-01") == {users, roots, owners}
    assert len(listed("--limit", "2")) == 2
    assert MAILER in stocked.says("key", "list")


def test_an_expired_key_is_shown_as_one(stocked: Desk) -> None:
    key_id = stocked.answers("key", "create", MAILER, "--expires", "1d")["id"]
    stocked.sql("UPDATE access_keys SET expires_at = '2020-01-01 00:00:00.000000'")
    assert stocked.answers("key", "show", key_id)["status"] == "expired"


@rows(
    "words, status, says",
    [
        (("create", "123456789012"), 1, "there is no account 123456789012"),
        (("create", f"{OWNER}/x"), 1, f"there is no user {OWNER}/x"),
        (("create", "x"), 2, "12 digits"),
        (("create", MAILER, "--expires", "soon"), 2, "`soon' is no time such as 2027-01-31"),
        (("create", MAILER, "--expires", "9999999w"), 2, "is no time"),
        (("create", MAILER, "--expires", "2020-01-01"), 2, "`2020-01-01' has passed already"),
        (("create", MAILER, "--from", "192.0.2.1/24"), 2, "--from: `192.0.2.1/24' is not a"),
        (("show", "short"), 2, "an access key id has"),
        (("show", "AKIAAAAAAAAAAAAAAAAA"), 1, "there is no access key AKIAAAAAAAAAAAAAAAAA"),
        (("set", "AKIAAAAAAAAAAAAAAAAA"), 2, "say what to change"),
        (
            ("set", "AKIAAAAAAAAAAAAAAAAA", "--expires", "1d", "--never-expires"),
            2,
            "either one or the other",
        ),
        (("disable", "AKIAAAAAAAAAAAAAAAAA"), 1, "there is no access key"),
        (("list", "--unused-for", "long"), 2, "`long' is no time"),
    ],
)
def test_what_cannot_be_done_is_reported(
    stocked: Desk, words: tuple[str, ...], status: int, says: str
) -> None:
    assert says in stocked.refuses("key", *words, status=status)


def test_a_journal_without_anything_unusual_gives_no_report(stocked: Desk) -> None:
    async def make() -> None:
        state = stocked.folder / "state"
        async with open_journal(journal_in(state), state, clock=SystemClock()) as journal:
            await journal.finish(submission(SystemClock()))

    asyncio.run(make())
    said = stocked.says("key", "watch", "replay", "--since", "30d")
    assert said.strip() == "nothing would have been reported"
    assert stocked.answers("key", "watch", "replay") == []


def suspended(desk: Desk, state: str = "suspended") -> str:
    """A key with an open alarm."""
    key_id: str = desk.answers("key", "create", MAILER)["id"]
    desk.sql(
        "UPDATE access_keys SET watch_state = ?, watch_reason = ?, watch_since = created_at",
        [(state, "3,120 recipients in an hour")],
    )
    return key_id


def test_an_alarm_is_listed_with_what_differs_and_ends_with_a_confirmation(
    stocked: Desk,
) -> None:
    key_id = suspended(stocked)
    (listed,) = stocked.answers("key", "watch", "list")
    assert (listed["id"], listed["watch"], listed["status"]) == (key_id,) + ("suspended",) * 2
    assert "3,120 recipients in an hour" in stocked.says("key", "watch", "list")
    said = stocked.says("key", "confirm", key_id)
    assert said.strip() == f"the use of access key {key_id} is confirmed"
    assert stocked.answers("key", "watch", "list") == []
    shown = stocked.answers("key", "show", key_id)
    assert (shown["status"], shown["watch"], shown["watch_reason"]) == ("active", None, None)
    (entry,) = stocked.answers("audit", "list", "--limit", "1")
    assert (entry["action"], entry["before"]["watch"]) == ("confirmed", "suspended")


def test_a_slowed_key_is_resumed_once(stocked: Desk) -> None:
    key_id = suspended(stocked, "slowed")
    assert stocked.answers("key", "show", key_id)["status"] == "slowed"
    assert stocked.says("key", "resume", key_id).strip() == (
        f"access key {key_id} sends as before"
    )
    said = stocked.refuses("key", "resume", key_id)
    assert f"access key {key_id} has no alarm that is open" in said


def test_the_usual_use_of_a_key_is_shown(stocked: Desk) -> None:
    key_id = stocked.answers("key", "create", MAILER)["id"]
    assert stocked.answers("key", "watch", "show", key_id)["days_of_use"] == 0
    seen = Observation(
        hour=500_000,
        network="192.0.2.0/24",
        authors=("shop@example.com",),
        messages=1,
        recipients=7,
    )
    profile = encode(record(None, seen, 7))
    insert = "INSERT INTO key_profiles VALUES (?, ?, '2026-01-01 00:00:00.000000')"
    stocked.sql(insert, [(key_id, profile)])
    shown = stocked.answers("key", "watch", "show", key_id)
    assert (shown["days_of_use"], shown["most_recipients_in_an_hour"]) == (1, 7)
    assert (shown["used_from"], shown["from_domains"]) == (["192.0.2.0/24"], ["example.com"])
    assert shown["networks"] == []  # those that the key is bound to
    assert shown["from_addresses"] == 1
