"""``smtpgate explain``, ``journal``, ``impact`` and ``usage``: what the journal tells."""

import asyncio
import csv
import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Final

import pytest
from msgspec import structs

from smtpgate.admin.journal import JournalSession
from smtpgate.cli.journal import _line
from smtpgate.cli.journal_session import run
from smtpgate.clock import SystemClock
from smtpgate.core.address import Mailbox, ReversePath
from smtpgate.core.events import SubmissionDone
from smtpgate.core.history.record import login_record
from smtpgate.core.message.author import Author
from smtpgate.core.outbox.task import Task
from smtpgate.journal.schema import HEAD
from tests.support.clock import MovableClock
from tests.support.desk import Desk
from tests.support.events import auth_failed
from tests.support.journal import journal_in, open_journal, submission
from tests.support.outbox import BOUNCE, HOOK, event_about, queue_of
from tests.support.rows import rows
from tests.support.world import DELEGATE, DOMAIN, IDENTITY, OWNER, grant

NOW: Final = SystemClock().now()
OTHER: Final = "arn:aws:ses:us-east-1:777777777777:identity/example.org"


def sent(
    hours_ago: float, outcome: str = "accepted", reason: str = "accepted", **more: object
) -> SubmissionDone:
    return submission(MovableClock(NOW - timedelta(hours=hours_ago)), outcome, reason, **more)


def as_ceo(event: SubmissionDone) -> SubmissionDone:
    mailbox = Mailbox("ceo", "ses-example.com")
    event.authors = (Author("The\x1b[31mCEO", mailbox),)
    envelope = structs.replace(event.submission.envelope, reverse_path=ReversePath(mailbox))
    event.submission = structs.replace(event.submission, envelope=envelope)
    return event


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A journal in a folder, and the ids of the messages in it."""
    state = tmp_path_factory.mktemp("written")
    events = (
        sent(30, recipients=3),
        sent(3, "refused", "explicit-deny"),
        sent(2, identity=OTHER, account="777777777777"),
        as_ceo(sent(1, "refused", "implicit-deny")),
    )

    async def put() -> None:
        async with open_journal(journal_in(state), state, clock=SystemClock()) as journal:
            for event in events:
                await journal.finish(event)
            journal.publish(structs.replace(auth_failed(), at=NOW))
            bounced = event_about(events[0], BOUNCE, "jane1@example.net\x1b[31m", at=NOW)
            await queue_of(journal).add([Task(bounced, HOOK)], [bounced])

    asyncio.run(put())
    return state, [event.submission.message_id for event in events]


@pytest.fixture
def ids(written: tuple[Path, list[str]], desk: Desk) -> list[str]:
    """Four messages, the oldest first: accepted, refused, another owner's, and as ceo."""
    state, found = written
    shutil.copytree(state, desk.folder / "state", dirs_exist_ok=True)
    return found


# -- explain -----------------------------------------------------------------------------------


def test_a_message_is_explained_in_plain_words(desk: Desk, ids: list[str]) -> None:
    reported = desk.says("explain", ids[0])
    assert reported.startswith(f"{ids[0]}: accepted\n")
    for words in (
        "Request",
        "3 recipients: jane0@example.net, jane1@example.net, jane2@example.net",
        '"Sid": "AuthorizeMarketer"',
        "Signed for d=ses-example.com with s=s1.",
    ):
        assert words in reported


def test_events_and_notifications_of_a_message_are_explained(
    desk: Desk, ids: list[str]
) -> None:
    reported = desk.says("explain", ids[0])
    assert "bounced (Permanent, NoEmail): jane1@example.net" in reported
    assert f"to subscription {HOOK.name}: waiting, next attempt" in reported
    (event,) = desk.answers("explain", ids[0])["events"]
    assert (event["kind"], event["type"], event["hard"]) == ("Bounce", "Permanent", True)
    assert event["rcpt_to"][0]["status"] == "5.1.1"
    (notice,) = desk.answers("explain", ids[0])["notifications"]
    assert (notice["destination"], notice["state"]) == (HOOK.name, "waiting")
    assert desk.answers("explain", ids[0], "--account", OWNER)["notifications"] == [notice]
    as_sender = desk.answers("explain", ids[0], "--account", DELEGATE)
    assert (as_sender["notifications"], as_sender["events"]) == ([], [event])
    assert desk.answers("explain", ids[1])["events"] == []


def test_messages_with_an_event_are_found(desk: Desk, ids: list[str]) -> None:
    found = desk.answers("journal", "search", "--event", "Bounce")
    assert [one["id"] for one in found] == [ids[0]]
    assert desk.answers("journal", "search", "--event", "Complaint") == []
    refused = desk.refuses("journal", "search", "--event", "Bounce", "--follow", status=2)
    assert "--event has no use with --follow" in refused


def test_what_others_wrote_does_not_drive_the_terminal(desk: Desk, ids: list[str]) -> None:
    assert "\x1b" not in desk.says("explain", ids[0])
    assert "\x1b" not in desk.says("explain", ids[3])
    assert "The\\x1b[31mCEO" in desk.says("explain", ids[3])


def test_a_message_that_is_followed_is_one_line_whatever_name_a_client_logs_in_with() -> None:
    name = "eve\n2026-11-29 10:00:00Z 0100 accepted (accepted)\x1b[31m"
    line = _line(login_record(auth_failed(name), "1"), NOW, as_json=False)
    assert line.isprintable()
    assert "eve\\n2026" in line


def test_a_message_is_explained_to_programs(desk: Desk, ids: list[str]) -> None:
    reported = desk.answers("explain", ids[1])
    assert (reported["id"], reported["outcome"], reported["reason"]) == (
        ids[1],
        "refused",
        "explicit-deny",
    )
    assert reported["account"] == DELEGATE
    assert reported["rcpt_to"] == ["jane0@example.net"]
    assert reported["identities"][0]["arn"] == IDENTITY
    assert reported["decision"]["determining"][0]["sid"] == "MaySend"
    assert '"Effect": "Allow"' in reported["decision"]["determining"][0]["text"]
    assert "Advice" in [section["title"] for section in reported["story"]]


def test_each_account_sees_what_concerns_it(desk: Desk, ids: list[str]) -> None:
    as_sender = desk.says("explain", ids[0], "--account", DELEGATE)
    assert '"Sid": "MaySend"' in as_sender
    assert '"Sid": "AuthorizeMarketer"' not in as_sender
    as_owner = desk.says("explain", ids[0], "--account", OWNER)
    assert '"Sid": "MaySend"' not in as_owner
    assert '"Sid": "AuthorizeMarketer"' in as_owner
    assert "AKIAIOSFODNN7EXAMPLE" in as_sender
    assert "AKIAIOSFODNN7EXAMPLE" not in as_owner
    refused = desk.refuses("explain", ids[0], "--account", "777777777777")
    assert f"the journal has no message {ids[0]}; it keeps 30 days at most" in refused


def test_a_unique_beginning_of_an_id_will_do(desk: Desk, ids: list[str]) -> None:
    whole = desk.says("explain", ids[0])
    for length in (-7, 24, 16):
        assert desk.says("explain", ids[0][:length]) == whole
    assert desk.says("explain", ids[0][:20].upper()) == whole


def test_a_beginning_of_several_ids_names_them(desk: Desk, ids: list[str]) -> None:
    refused = desk.refuses("explain", ids[0][:6])
    assert f"`{ids[0][:6]}' is the beginning of several ids:" in refused
    assert all(one in refused for one in ids)
    refused = desk.refuses("explain", ids[0][:6], "--account", OWNER)
    assert ids[2] not in refused
    assert f"{ids[2]}: accepted" in desk.says(
        "explain", ids[2][:6], "--account", "777777777777"
    )


@pytest.mark.usefixtures("ids")
@rows("text", ["", "x", "0200", "0100-", "0100ffff", "%", "0100'", "01" * 40])
def test_what_no_id_begins_with_is_not_found(desk: Desk, text: str) -> None:
    assert f"the journal has no message {text}" in desk.refuses("explain", "--", text)


# -- search ------------------------------------------------------------------------------------


def find(desk: Desk, *options: str) -> list[str]:
    return [one["id"] for one in desk.answers("journal", "search", *options)]


@rows(
    "options, found",
    [
        (("--outcome", "refused", "--reason", "explicit-deny"), [1]),
        (("--outcome", "accepted"), [2, 0]),
        (("--account", OWNER), [3, 1, 0]),
        (("--account", "777777777777"), [2]),
        (("--user", f"{DELEGATE}/mailer"), [3, 1, 0]),
        (("--identity", IDENTITY, "--since", "4h"), [3, 1]),
        (("--identity", "ses-example.com", "--limit", "2"), [3, 2]),
        (("--address", "jane2@example.net"), [0]),
        (("--address", "CEO@ses-example.com"), [3]),
        (("--until", "1d", "--account", DELEGATE), [0]),
        (("--outcome", "in-doubt"), []),
    ],
)
def test_messages_are_found_newest_first(
    desk: Desk, ids: list[str], options: tuple[str, ...], found: list[int]
) -> None:
    assert find(desk, *options) == [ids[at] for at in found]


def test_all_are_found_with_the_login(desk: Desk, ids: list[str]) -> None:
    found = desk.answers("journal", "search")
    assert [one["kind"] for one in found] == ["login", *["submission"] * 4]
    assert [one["id"] for one in found[1:]] == ids[::-1]
    assert [one["id"] for one in desk.answers("journal", "search", "--limit", "1")] == [
        found[0]["id"]
    ]
    assert find(desk, "--reason", "invalid-credentials") == [found[0]["id"]]


def test_a_table_names_what_one_looks_for(desk: Desk, ids: list[str]) -> None:
    table = desk.says("journal", "search", "--account", DELEGATE)
    assert all(one in table for one in (ids[0], ids[1], ids[3]))
    for words in ("explicit-deny", "3 recipients", "jane0@example.net", "ceo@ses-example.com"):
        assert words in table
    assert desk.says("journal", "search", "--reason", "in-doubt") == "no messages were found\n"


def test_in_a_pipe_messages_are_blocks_of_a_readable_width_and_with_wide_a_line_each(
    desk: Desk, ids: list[str]
) -> None:
    blocks = desk.says("journal", "search", "--account", DELEGATE)
    assert max(map(len, blocks.splitlines())) <= 120
    assert f"id        {ids[0]}\n" in blocks
    wide = desk.says("journal", "search", "--account", DELEGATE, "--wide")
    (line,) = [line for line in wide.splitlines() if ids[0] in line]
    assert f"arn:aws:iam::{DELEGATE}:user/mailer" in line


@pytest.mark.usefixtures("ids")
def test_who_searches_for_an_account_sees_no_more_than_it_may(desk: Desk) -> None:
    for row in desk.answers("journal", "search", "--account", OWNER):
        assert row["access_key"] is None
        texts = [one["text"] for one in row["decision"]["determining"] if one["side"] == "user"]
        assert set(texts) == {None}


@rows(
    "options, says",
    [
        (("--reason", "because"), "`because' is no reason code"),
        (("--since", "yesterday"), "--since: `yesterday' is no time"),
        (("--address", "nobody"), "`nobody' is no address"),
        (("--identity", "arn:nonsense"), "is not the ARN of an identity"),
        (("--identity", "no name"), "neither a domain nor an address"),
        (("--user", "mailer"), "`mailer' names no user"),
        (("--account", "12"), "12"),
        (("--follow", "--until", "1h"), "--until has no use with --follow"),
    ],
)
def test_what_cannot_be_looked_for_is_reported(
    desk: Desk, options: tuple[str, ...], says: str
) -> None:
    assert says in desk.refuses("journal", "search", *options, status=2)


# -- the database ------------------------------------------------------------------------------


def test_the_journal_s_state_is_reported(desk: Desk, ids: list[str]) -> None:
    reported = desk.answers("journal", "status")
    assert reported["records"] == len(ids) + 1
    assert (reported["kind"], reported["revision"], reported["relaying"]) == ("sqlite", HEAD, 0)
    assert reported["oldest"] < reported["newest"]
    assert "journal.sqlite" in desk.says("journal", "status")


def test_tables_are_made_by_hand_too(desk: Desk) -> None:
    assert f"made, at revision {HEAD}" in desk.says("journal", "upgrade")
    assert f"at revision {HEAD} already" in desk.says("journal", "upgrade")
    reported = desk.answers("journal", "status")
    assert (reported["records"], reported["oldest"], reported["newest"]) == (0, None, None)
    assert desk.answers("journal", "search") == []


def without_a_file(desk: Desk) -> str:
    for name in ("journal.sqlite", "journal.key"):
        (desk.folder / "state" / name).unlink()
    return "journal.sqlite yet; the first start makes it"


def without_its_key(desk: Desk) -> str:
    (desk.folder / "state" / "journal.key").unlink()
    return "journal.key: is missing"


def with_another_key(desk: Desk) -> str:
    (desk.folder / "state" / "journal.key").write_text("A" * 43 + "=\n")
    return "is not the key that the journal in"


def damaged(desk: Desk) -> str:
    (desk.folder / "state" / "journal.sqlite").write_text("nonsense " * 1000)
    return "is no SQLite database"


def turned_off(desk: Desk) -> str:
    desk.configure("[dns]", "[journal]\nenabled = false\n[dns]")
    return "journal.enabled is false"


@pytest.mark.usefixtures("ids")
@pytest.mark.parametrize(
    "trouble", [without_a_file, without_its_key, with_another_key, damaged, turned_off]
)
@pytest.mark.parametrize("words", [("journal", "search"), ("explain", "0100"), ("usage",)])
def test_a_journal_that_cannot_be_opened_is_reported(
    desk: Desk, words: tuple[str, ...], trouble: Callable[[Desk], str]
) -> None:
    says = trouble(desk)
    assert says in desk.refuses(*words)


@pytest.mark.usefixtures("ids")
def test_a_reader_that_has_enough_is_no_trouble_of_the_journal(desk: Desk) -> None:
    async def print_more(_session: JournalSession) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run(desk.config, print_more)


# -- impact ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def furnished(two_accounts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the delegate's mailer may send as marketing."""
    desk = Desk(tmp_path_factory.mktemp("furnished"), two_accounts)
    desk.says("user", "create", f"{DELEGATE}/mailer")
    desk.says("identity", "register", DOMAIN)
    desk.sql("UPDATE identities SET state = 'success'")
    put = ("identity", "policy", "put", DOMAIN, "marketing", "-")
    condition = {"StringEquals": {"ses:FromAddress": "marketing@ses-example.com"}}
    desk.says(*put, stdin=grant(Condition=condition))
    return desk.database


@pytest.fixture
def stocked(furnished: Path, desk: Desk) -> Desk:
    """A desk with a copy of that directory."""
    shutil.copy(furnished, desk.database)
    return desk


def propose(desk: Desk, name: str, *addresses: str) -> Path:
    condition = {"StringEquals": {"ses:FromAddress": list(addresses)}}
    return desk.file(f"{name}.json", grant(Condition=condition))


def test_what_a_policy_would_change_is_reported(stocked: Desk, ids: list[str]) -> None:
    policy = propose(stocked, "marketing", "ceo@ses-example.com")
    words = ("impact", "--policy", policy, "--identity", IDENTITY, "--since", "2d")
    reported = stocked.answers(*words)
    assert (reported["looked_at"], reported["newly_allowed"], reported["newly_refused"]) == (
        4,
        1,
        2,
    )
    assert reported["newly_allowed_by_sender"] == [
        {
            "user": f"arn:aws:iam::{DELEGATE}:user/mailer",
            "from": "ceo@ses-example.com",
            "requests": 1,
        }
    ]
    assert reported["newly_refused_by_sender"][0]["requests"] == 2
    examples = {one["id"]: (one["now"], one["as_proposed"]) for one in reported["examples"]}
    assert examples == {
        ids[0]: ("allowed", "implicit-deny"),
        ids[1]: ("allowed", "implicit-deny"),
        ids[3]: ("implicit-deny", "allowed"),
    }
    assert reported["unclear"] == {"sender-gone": 1}
    shown = stocked.says(*words)
    for part in (
        "4 requests since",
        "1 newly allowed, 2 newly refused",
        "From the journal: time, client",
        "As they are now: senders",
        "1 cannot be decided again: its user is not in the directory any more.",
        ids[3],
    ):
        assert part in shown


@pytest.mark.usefixtures("ids")
def test_a_policy_beside_the_others_takes_nothing_away(stocked: Desk) -> None:
    policy = propose(stocked, "board", "ceo@ses-example.com")
    words = ("--policy", str(policy), "--identity", IDENTITY)
    reported = stocked.answers("impact", *words)
    assert (reported["policy"], reported["newly_allowed"], reported["newly_refused"]) == (
        "board",
        1,
        0,
    )
    reported = stocked.answers("impact", *words, "--as", "marketing")
    assert (reported["policy"], reported["newly_refused"]) == ("marketing", 2)
    reported = stocked.answers("impact", *words, "--since", "90m")
    assert reported["looked_at"] == 1


@pytest.mark.usefixtures("ids")
def test_nothing_that_changes_is_no_failure(stocked: Desk) -> None:
    policy = propose(stocked, "marketing", "marketing@ses-example.com")
    shown = stocked.says("impact", "--policy", policy, "--identity", IDENTITY)
    assert "0 newly allowed, 0 newly refused" in shown


@pytest.mark.usefixtures("ids")
@rows(
    "document, identity, status, says",
    [
        ("{}", IDENTITY, 1, "Statement: is missing"),
        (grant(Resource="*"), IDENTITY, 1, "must be exactly"),
        (grant(), IDENTITY.replace("ses-", ""), 1, "must be exactly"),
        (
            grant(Resource=IDENTITY.replace("ses-", "")),
            IDENTITY.replace("ses-", ""),
            1,
            "the directory has no arn:aws:ses:us-east-1:888888888888:identity/example.com",
        ),
        (grant(), "nonsense", 2, "is not the ARN of an identity"),
    ],
)
def test_a_proposal_that_cannot_be_made_is_reported(
    stocked: Desk, document: str, identity: str, status: int, says: str
) -> None:
    policy = stocked.file("marketing.json", document)
    refused = stocked.refuses(
        "impact", "--policy", policy, "--identity", identity, status=status
    )
    assert says in refused


# -- usage -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("ids")
def test_usage_is_reported_by_sender_and_identity(desk: Desk) -> None:
    rows = desk.answers("usage", "--account", DELEGATE, "--since", "3d")
    assert {row["identity"] for row in rows} == {IDENTITY}
    assert sum(row["attempts"] for row in rows) == 3
    assert {row["reason"] for row in rows} == {"accepted", "explicit-deny", "implicit-deny"}
    accepted = next(row for row in rows if row["reason"] == "accepted")
    assert (accepted["messages"], accepted["recipients"], accepted["owner"]) == (1, 3, OWNER)
    shown = desk.says("usage", "--account", DELEGATE, "--since", "3d")
    assert "sent since" in shown
    assert "explicit-deny=1" in shown
    assert "used by others" not in shown
    assert "█" in shown


@pytest.mark.usefixtures("ids")
def test_bounces_are_in_the_usage_of_the_time_when_they_came(desk: Desk) -> None:
    rows = desk.answers("usage", "--since", "2h")
    assert sum(row["bounces"] for row in rows) == sum(row["hard_bounces"] for row in rows) == 1
    assert (
        desk.answers("usage", "--since", "3d", "--account", "777777777777")[0]["bounces"] == 0
    )
    for options in ((), ("--by", "day")):
        shown = desk.says("usage", "--since", "2h", "--account", OWNER, *options)
        assert "bounces" in shown
    shown = desk.says("usage", "--since", "3d", "--account", "777777777777")
    assert "bounces" not in shown


@pytest.mark.usefixtures("ids")
def test_an_owner_sees_who_used_its_identities(desk: Desk) -> None:
    shown = desk.says("usage", "--account", OWNER, "--since", "3d", "--by", "day")
    assert "used by others since" in shown
    assert f"arn:aws:iam::{DELEGATE}:user/mailer" in shown
    assert "over time since" in shown


@pytest.mark.usefixtures("ids")
@rows(
    "options, attempts",
    [
        ((), 3),  # since a day
        (("--since", "3d"), 4),
        (("--since", "3d", "--by", "15m"), 4),
        (("--since", "90m"), 1),
        (("--since", "3d", "--user", f"{DELEGATE}/mailer"), 3),
        (("--since", "3d", "--identity", OTHER), 1),
        (("--since", "3d", "--account", "111111111111"), 0),
    ],
)
def test_usage_is_of_what_was_asked_for(
    desk: Desk, options: tuple[str, ...], attempts: int
) -> None:
    rows = desk.answers("usage", *options)
    assert sum(row["attempts"] for row in rows) == attempts
    if not attempts:
        assert desk.says("usage", *options) == "nothing was sent\n"


@pytest.mark.usefixtures("ids")
def test_usage_as_csv_is_what_it_is_as_json(desk: Desk) -> None:
    rows = list(csv.DictReader(StringIO(desk.says("usage", "--since", "3d", "--csv"))))
    reported = desk.answers("usage", "--since", "3d")
    assert [row["start"] for row in rows] == [row["start"] for row in reported]
    assert [json.loads(row["attempts"]) for row in rows] == [
        row["attempts"] for row in reported
    ]


@pytest.mark.usefixtures("ids")
@rows(
    "options, status, says",
    [
        (("--json", "--csv"), 2, "--json and --csv exclude each other"),
        (("--identity", "ses-example.com"), 2, "is not the ARN of an identity"),
        (("--by", "week"), 2, "week"),
        (("--since", "2099-01-01"), 1, "usage has a begin that is in the future"),
    ],
)
def test_usage_that_cannot_be_shown(
    desk: Desk, options: tuple[str, ...], status: int, says: str
) -> None:
    assert says in desk.refuses("usage", *options, status=status)
