import json
import os
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from smtpgate.config.sections import LogConfig
from smtpgate.core.events import (
    DirectoryChanged,
    DkimAlarm,
    Event,
    EventsRecorded,
    IdentitiesChecked,
    IdentityStateChanged,
    JournalChanged,
    RecordsInDoubt,
    RecordsLost,
    ReputationsJudged,
    RetentionChanged,
    SessionClosed,
    SessionOpened,
    SubmissionDone,
)
from smtpgate.core.limits import Crossing
from smtpgate.core.policy import Decision, Determining, NearestMiss, Policy, Side
from smtpgate.core.reply import CATALOGUE, Reply
from smtpgate.core.routing.failed_try import FailedTry
from smtpgate.core.secret import Secret
from smtpgate.core.suppression.withheld import Withheld
from smtpgate.core.upstream import RecipientReply
from smtpgate.log import _LINES, JsonLog, Level
from smtpgate.log.lines import __doc__ as lines_doc
from tests.support.clock import MovableClock, move_loop
from tests.support.events import (
    AT,
    CLIENT,
    IDENTITY_EVENTS,
    REPUTATION_EVENTS,
    auth_failed,
    authenticated,
    budget_exhausted,
    done,
    mail_refused,
    sessions_ended,
)
from tests.support.world import DELEGATE, IDENTITY, OWNER

# The metrics count these, and nobody has to read of each.
COUNTED_ONLY = {
    SessionOpened,
    SessionClosed,
    EventsRecorded,
    IdentitiesChecked,
    ReputationsJudged,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def log(path: Path, clock: MovableClock) -> JsonLog:
    return JsonLog(LogConfig(target=path, level="info"), clock=clock)


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_submission_is_one_line_that_tells_who_what_and_why(log: JsonLog, path: Path) -> None:
    event = done(recipients=2, used_24h=7)
    event.signing_domain, event.selectors = "ses-example.com", ("s1", "s2")
    event.upstream, event.upstream_reply = "smarthost", Reply(250, "2.0.0", "Ok: queued as 1")
    event.decision = Decision(
        "allow",
        (Determining("identity", "marketing", "AuthorizeMarketer", 0),),
        Side("user", "allow"),
        Side("identity", "allow"),
    )
    log.publish(event)
    (entry,) = entries(path)
    assert entry == {
        "time": "2026-11-23T10:00:00.135Z",
        "level": "info",
        "event": "submission",
        "id": "0100-1",
        "outcome": "accepted",
        "reason": "accepted",
        "code": 250,
        "enhanced": "2.0.0",
        "account": DELEGATE,
        "user": f"arn:aws:iam::{DELEGATE}:user/mailer",
        "access_key": "AKIAIOSFODNN7EXAMPLE",
        "client": "192.0.2.7",
        "port": 50123,
        "mechanism": "PLAIN",
        "helo": "client.example.org",
        "listener": "submission",
        "protocol": "ESMTPSA",
        "tls": "TLSv1.3",
        "mail_from": "marketing@ses-example.com",
        "recipients": 2,
        "rcpt_to": ["jane0@example.net", "jane1@example.net"],
        "octets": len(event.submission.message),
        "from": ["marketing@ses-example.com"],
        "identities": [
            {
                "role": "from",
                "address": "marketing@ses-example.com",
                "arn": IDENTITY,
                "how": "named",
            }
        ],
        "decision": {
            "outcome": "allow",
            "determining": [
                {
                    "side": "identity",
                    "policy": "marketing",
                    "sid": "AuthorizeMarketer",
                    "index": 0,
                }
            ],
        },
        "used_24h": 7,
        "signing_domain": "ses-example.com",
        "selectors": ["s1", "s2"],
        "upstream": "smarthost",
        "upstream_reply": "250 2.0.0 Ok: queued as 1",
        "stage_ms": {"message": 0.1, "authorization": 0.2, "relay": 10.0},
        "total_ms": 12.0,
    }


def test_the_policies_of_a_sender_are_not_compared_for_its_lines(
    log: JsonLog, path: Path
) -> None:
    class Large(tuple[Policy, ...]):
        """Policies that would take long to compare."""

        def __eq__(self, other: object) -> bool:
            pytest.fail("compared")

        __hash__ = tuple.__hash__

    for account in (DELEGATE, DELEGATE, OWNER):
        event = done(account=account)
        principal = replace(event.submission.principal, policies=Large())
        event.submission = replace(event.submission, principal=principal)
        log.publish(event)
    assert [one["account"] for one in entries(path)] == [DELEGATE, DELEGATE, OWNER]


def test_a_refusal_tells_what_was_nearest_to_an_allow(log: JsonLog, path: Path) -> None:
    miss = NearestMiss(
        "identity", "marketing", "M", 0, "ses:FromAddress", "marketing+*", "sales@example.com"
    )
    event = done("refused", "implicit-deny", reply=CATALOGUE["access-denied"])
    event.detail = "seen"
    event.decision = Decision(
        "implicit-deny",
        (),
        Side("user", "allow"),
        Side("identity", "implicit-deny", miss=miss),
        miss,
    )
    log.publish(event)
    (entry,) = entries(path)
    assert entry["level"] == "warning"
    assert (entry["code"], entry["enhanced"], entry["detail"]) == (554, "5.7.1", "seen")
    assert entry["decision"]["nearest_miss"] == str(miss)


def test_what_is_not_known_is_absent(log: JsonLog, path: Path) -> None:
    event = done("refused", "malformed-message", identity=None)
    event.authors, event.reply, event.done_at = (), None, None
    log.publish(event)
    (entry,) = entries(path)
    absent = {"from", "identities", "decision", "used_24h", "code", "upstream", "total_ms"}
    assert not absent & set(entry)
    assert None not in entry.values()


def odd_facts() -> dict[str, tuple[dict[str, Any], Any]]:
    """The facts that few messages have, by the key that shows each."""
    event = done(max_24h_send=100)
    jane = event.submission.envelope.mailboxes[0]
    refusal = Reply(550, "5.1.1", "unknown")
    reached = {"subject": f"account {DELEGATE}", "percent": 80, "used_24h": 80}
    return {
        "quota_reached": (
            {"crossings": (Crossing(event.charges[0], 80, 80),)},
            [{**reached, "max_24h_send": 100}],
        ),
        "paced_ms": ({"paced_s": 0.25}, 250.0),
        "uncounted": ({"uncounted": "disk full"}, "disk full"),
        "long_line": ({"long_line": 7}, 7),
        "tried": (
            {"tried": (FailedTry("first", "timeout", "silence"),)},
            [{"upstream": "first", "cause": "timeout", "problem": "silence"}],
        ),
        "refused": (
            {"refused": (RecipientReply(jane, refusal),)},
            [{"reply": "550 5.1.1 unknown", "rcpt_to": "jane0@example.net"}],
        ),
        "withheld": (
            {"withheld": (Withheld(jane),)},
            [{"outcome": "suppressed", "rcpt_to": "jane0@example.net"}],
        ),
    }


@pytest.mark.parametrize("key", odd_facts())
def test_what_few_messages_have_is_shown_where_it_is(
    log: JsonLog, path: Path, key: str
) -> None:
    log.publish(done(max_24h_send=100))
    facts, shown = odd_facts()[key]
    event = done(max_24h_send=100)
    for name, value in facts.items():
        setattr(event, name, value)
    log.publish(event)
    usual, odd = entries(path)
    assert odd[key] == shown
    assert odd | {"level": "info"} == usual | {key: shown}


def test_what_was_decided_is_that_of_each_message(log: JsonLog, path: Path) -> None:
    event = done()
    for domain in ("ses-example.com", "example.com", "ses-example.com", None):
        event.signing_domain = domain
        log.publish(event)
    domains = [entry.get("signing_domain") for entry in entries(path)]
    assert domains == ["ses-example.com", "example.com", "ses-example.com", None]


def test_an_identity_and_a_key_without_a_problem_have_none_in_their_lines(
    log: JsonLog, path: Path
) -> None:
    log.publish(IdentityStateChanged(IDENTITY, OWNER, "success", None, "", AT))
    log.publish(DkimAlarm(IDENTITY, "one", None, "", AT))
    identity, alarm = entries(path)
    assert set(identity) == {"time", "level", "event", "identity", "account", "state"}
    assert set(alarm) == {"time", "level", "event", "identity", "selector"}
    assert identity["level"] == alarm["level"] == "info"


def test_a_sender_that_was_paused_has_a_line_with_its_rates(log: JsonLog, path: Path) -> None:
    for event in REPUTATION_EVENTS:
        log.publish(event)
    (entry,) = entries(path)
    assert entry.pop("time")
    assert entry == {
        "level": "warning",
        "event": "reputation",
        "kind": "account",
        "account": DELEGATE,
        "status": "SHUTDOWN",
        "was": "HEALTHY",
        "bounce": "pause",
        "bounce_rate": 0.1234,
        "complaint": "healthy",
        "complaint_rate": 0.0005,
        "recipients": 10_000,
        "since": "2026-11-23T10:00:00.123Z",
        "problem": "its bounce rate is 12.34 %",
    }


def test_recipients_are_only_counted_where_the_setting_says_so(
    path: Path, clock: MovableClock
) -> None:
    log = JsonLog(LogConfig(target=path, level="info", recipients=False), clock=clock)
    event = done(recipients=3)
    jane = event.submission.envelope.mailboxes[0]
    event.refused = (RecipientReply(jane, Reply(550, "5.1.1", "unknown")),)
    event.withheld = (Withheld(jane),)
    log.publish(event)
    (entry,) = entries(path)
    assert entry["recipients"] == 3
    assert "rcpt_to" not in entry
    assert entry["refused"] == [{"reply": "550 5.1.1 unknown"}]
    assert entry["withheld"] == [{"outcome": "suppressed"}]
    assert "jane" not in path.read_text()


def test_no_line_has_a_subject_a_body_or_a_secret(log: JsonLog, path: Path) -> None:
    log.publish(done())
    log.publish(done("refused", "explicit-deny"))
    log.note("info", "made", secret=Secret("wJalrXUtnFEMI"))
    text = path.read_text()
    assert "Spring sale" not in text
    assert "Hello Jane" not in text
    assert "wJalrXUtnFEMI" not in text


@pytest.mark.parametrize("text", ['"}\n{"event":"x', "a\r\nb", "\x1b[31m", "naïve\u2028", "\0"])
def test_nothing_that_a_client_says_can_begin_a_line_or_end_its_quotes(
    log: JsonLog, path: Path, text: str
) -> None:
    log.publish(auth_failed(text))
    octets = path.read_bytes()
    assert octets.count(b"\n") == 1
    assert octets.isascii()
    assert octets[:-1].decode().isprintable()
    assert entries(path)[0]["username"] == text


def fail2ban() -> re.Pattern[str]:
    """The documented pattern, as fail2ban reads it."""
    assert lines_doc is not None
    (pattern,) = re.findall(r"failregex = (.*)", lines_doc)
    return re.compile(pattern.replace("<HOST>", "(?P<host>[0-9A-Fa-f:.]+)"))


def test_fail2ban_finds_the_address_of_a_failed_login(log: JsonLog, path: Path) -> None:
    log.publish(auth_failed())
    found = fail2ban().search(path.read_text())
    assert found is not None
    assert found["host"] == CLIENT.address


def test_a_client_cannot_make_fail2ban_ban_another(log: JsonLog, path: Path) -> None:
    forged = (
        '{"time":"2026-11-23T10:00:00.123Z","level":"warning","event":"auth-failed",'
        '"client":"198.51.100.1"'
    )
    log.publish(auth_failed(forged))
    log.publish(done("refused", "bad-author"))
    hosts = [found["host"] for found in fail2ban().finditer(path.read_text())]
    assert hosts == [CLIENT.address]


def test_notes_below_the_level_are_left_out_and_transactions_never(
    path: Path, clock: MovableClock
) -> None:
    log = JsonLog(LogConfig(target=path, level="error"), clock=clock)
    log.note("warning", "left out")
    log.note("error", "kept", port=587)
    log.publish(done())
    log.publish(auth_failed())
    events = [entry["event"] for entry in entries(path)]
    assert events == ["kept", "submission", "auth-failed"]
    assert entries(path)[0]["port"] == 587


@pytest.mark.parametrize(
    ("level", "output"),
    [
        ("debug", ["authenticated", "sessions-ended"]),
        ("info", ["sessions-ended"]),
        ("warning", []),
    ],
)
def test_logins_are_for_debugging_and_sessions_that_end_with_their_key_for_information(
    path: Path, clock: MovableClock, level: Level, output: list[str]
) -> None:
    log = JsonLog(LogConfig(target=path, level=level), clock=clock)
    log.publish(authenticated())
    log.publish(sessions_ended(3))
    seen = {entry.pop("event"): entry for entry in entries(path)}
    assert list(seen) == output
    for entry in seen.values():
        assert entry["access_key"] == "AKIAIOSFODNN7EXAMPLE"
        assert entry["account"] == DELEGATE
    if "authenticated" in seen:
        assert seen["authenticated"]["client"] == CLIENT.address
        assert seen["authenticated"]["listener"] == "submission"
    if "sessions-ended" in seen:
        ended = seen["sessions-ended"]
        assert (ended["reason"], ended["sessions"]) == ("access-key-expired", 3)


def test_a_journal_that_fails_and_works_again_is_reported_in_three_lines(path: Path) -> None:
    log = JsonLog(LogConfig(target=path, level="error"), clock=MovableClock())
    log.publish(JournalChanged("journal.sqlite: disk full", 0, AT))
    log.publish(RecordsLost(2, "too many", AT))
    log.publish(JournalChanged(None, 3, AT))
    failed, lost, again = entries(path)
    assert (failed["event"], failed["level"]) == ("journal-failed", "error")
    assert failed["problem"] == "journal.sqlite: disk full"
    assert (lost["event"], lost["level"], lost["records"]) == ("journal-lost", "error", 2)
    assert (again["event"], again["level"]) == ("journal-written-again", "info")
    assert (failed["owed"], again["written"]) == (0, 3)


def test_a_directory_that_fails_and_answers_again_is_reported_in_two_lines(path: Path) -> None:
    log = JsonLog(LogConfig(target=path, level="error"), clock=MovableClock())
    log.publish(DirectoryChanged("db.example.com: connection refused", 0.0, AT))
    log.publish(DirectoryChanged(None, 2.5, AT))
    failed, again = entries(path)
    assert (failed["event"], failed["level"]) == ("directory-failed", "error")
    assert failed["problem"] == "db.example.com: connection refused"
    assert (again["event"], again["level"]) == ("directory-answers-again", "info")
    assert again["lasted_s"] == 2.5


def test_a_log_whose_pipe_is_closed_is_reported_elsewhere(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = JsonLog(LogConfig(target=path, level="info"), clock=MovableClock())
    assert log.check() == (True, "open")
    os.close(reading)
    for _ in range(3):
        log.note("info", "started")
    assert [one.value for one in log.readings()] == [3]
    assert log.check() == (True, f"{path}: Broken pipe; 3 lines lost")
    (line,) = capfd.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "log-failed"
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log.note("info", "started")
    assert log.check() == (True, "open")
    lines = [json.loads(one) for one in os.read(reading, 10_000).splitlines()]
    assert [one["event"] for one in lines] == ["started", "log lines dropped"]
    assert lines[1]["lines"] == 3
    assert [one.value for one in log.readings()] == [3]
    os.close(reading)


def test_records_that_a_killed_gate_left_are_reported_in_a_line(path: Path) -> None:
    log = JsonLog(LogConfig(target=path, level="error"), clock=MovableClock())
    log.publish(RecordsInDoubt(3, AT))
    (line,) = entries(path)
    assert (line["event"], line["level"], line["records"]) == ("journal-in-doubt", "warning", 3)


def test_a_retention_that_fails_and_works_again_is_reported_in_two_lines(path: Path) -> None:
    log = JsonLog(LogConfig(target=path, level="error"), clock=MovableClock())
    log.publish(RetentionChanged("journal.sqlite: disk full", AT))
    log.publish(RetentionChanged(None, AT))
    failed, again = entries(path)
    assert (failed["event"], failed["level"]) == ("journal-retention-failed", "error")
    assert failed["problem"] == "journal.sqlite: disk full"
    assert (again["event"], again["level"]) == ("journal-retention-resumed", "info")


def test_a_used_up_budget_has_a_line_that_names_the_configuration_key(
    log: JsonLog, path: Path
) -> None:
    log.publish(budget_exhausted("errors"))
    (entry,) = entries(path)
    assert (entry["event"], entry["level"]) == ("budget-exhausted", "info")
    assert (entry["budget"], entry["key"]) == ("errors", "listener.submission.max_errors")
    assert (entry["code"], entry["account"]) == (421, DELEGATE)


def test_sessions_have_no_lines(log: JsonLog, path: Path) -> None:
    log.publish(SessionOpened("submission"))
    assert path.read_text() == ""


def test_an_unexpected_error_is_logged_with_its_traceback(log: JsonLog, path: Path) -> None:
    def fail() -> None:
        raise LookupError("the inner words")

    with pytest.raises(LookupError) as caught:
        fail()
    log.error(caught.value)
    (entry,) = entries(path)
    assert entry["event"] == "unexpected-error"
    assert entry["error"] == "LookupError"
    assert entry["text"] == "the inner words"
    assert "in fail" in entry["traceback"]


def test_an_internal_error_is_an_error_also_in_its_transaction(
    log: JsonLog, path: Path
) -> None:
    log.publish(done("deferred", "internal-error"))
    assert entries(path)[0]["level"] == "error"


def test_a_log_that_cannot_be_opened_says_so_at_once(
    tmp_path: Path, clock: MovableClock
) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        JsonLog(LogConfig(target=tmp_path / "nowhere" / "log", level="info"), clock=clock)


def test_what_became_of_an_identity_or_its_key_has_a_line(log: JsonLog, path: Path) -> None:
    for event in IDENTITY_EVENTS:
        log.publish(event)
    identity, alarm = entries(path)
    assert identity == {
        "time": "2026-11-23T10:00:00.123Z",
        "level": "warning",
        "event": "identity-state",
        "identity": IDENTITY,
        "account": OWNER,
        "state": "success",
        "missing_since": "2026-11-23T10:00:00.123Z",
        "problem": "no TXT record",
    }
    assert (alarm["event"], alarm["level"]) == ("dkim-alarm", "warning")
    assert (alarm["selector"], alarm["problem"]) == ("one", "no TXT record is published")
    assert alarm["since"] == "2026-11-23T10:00:00.123Z"


def test_a_refused_mail_is_a_line_without_a_message(log: JsonLog, path: Path) -> None:
    log.publish(mail_refused())
    (entry,) = entries(path)
    assert entry == {
        "time": "2026-11-23T10:00:00.123Z",
        "level": "warning",
        "event": "mail-refused",
        "id": "0100-2",
        "outcome": "deferred",
        "reason": "max-24h-send",
        "detail": f"account {DELEGATE}: 0 of 200 recipients left, retry after 00:03:12",
        "code": 454,
        "enhanced": "4.7.0",
        "account": DELEGATE,
        "user": f"arn:aws:iam::{DELEGATE}:user/mailer",
        "access_key": "AKIAIOSFODNN7EXAMPLE",
        "client": "192.0.2.7",
        "port": 50123,
        "mechanism": "PLAIN",
        "helo": "client.example.org",
        "listener": "submission",
        "protocol": "ESMTPSA",
        "tls": "TLSv1.3",
    }


async def test_a_minute_of_a_flood_is_not_cut_short_by_the_end_of_the_last_one(
    path: Path, clock: MovableClock
) -> None:
    log = JsonLog(LogConfig(target=path, level="info", refusals_per_minute=1), clock=clock)
    for after_s in (0, 50, 11, 1, 50):  # the third is the first of another minute
        clock.move(after_s)
        await move_loop(after_s)
        log.publish(budget_exhausted("errors"))
    await log.close()
    said = [entry["event"] for entry in entries(path)]
    assert said == ["budget-exhausted", "lines-left-out"] * 2


def test_every_other_event_has_its_line() -> None:
    logged = {*_LINES, SubmissionDone}
    assert logged == set(get_args(Event)) - COUNTED_ONLY
