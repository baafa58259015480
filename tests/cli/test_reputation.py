"""``smtpgate reputation``: rates shown, senders paused and resumed, and judged from now on."""

import asyncio
import json
from pathlib import Path
from typing import Final

import pytest

from smtpgate.clock import SystemClock
from smtpgate.core.feedback.kinds import NO_EMAIL
from smtpgate.core.outbox.event import BounceDetail, EventRecipient, sending_event
from smtpgate.core.outbox.mail import sent_mail
from smtpgate.core.reputation.sender import RatedSender
from tests.support.desk import Desk
from tests.support.directory import open_store
from tests.support.journal import journal_in, open_journal, submission
from tests.support.outbox import queue_of
from tests.support.reputations import RATE, pause
from tests.support.rows import rows
from tests.support.world import DELEGATE, DOMAIN, IDENTITY, OWNER

SET: Final = f"{DELEGATE}/spring"
ON_IDENTITY: Final = (DELEGATE, "--identity", IDENTITY)


@pytest.fixture(scope="module")
def furnished(two_accounts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two accounts, an identity, a configuration set, and a journal with one bounce."""
    desk = Desk(tmp_path_factory.mktemp("reputation"), two_accounts)
    desk.says("identity", "register", DOMAIN, "--trust")
    desk.says("configuration-set", "create", SET)
    return desk.database


@pytest.fixture
def mailed(stocked: Desk) -> Desk:
    """A message of the delegate to four recipients, of which one bounced."""

    async def write() -> None:
        state, clock = stocked.database.parent, SystemClock()
        async with open_journal(journal_in(state), state, clock=clock) as journal:
            done = submission(clock, recipients=4)
            mail = sent_mail(done.submission, IDENTITY, None, None, "")
            await journal.finish(done)
            to = [EventRecipient("jane@example.net")]
            bounce = sending_event(clock.now(), mail, to, BounceDetail(NO_EMAIL))
            await queue_of(journal).add([], [bounce])

    asyncio.run(write())
    return stocked


def pause_account(stocked: Desk) -> None:
    """The account paused as the gate does."""

    async def write() -> None:
        async with open_store(f"sqlite:///{stocked.database}") as store:
            await pause(store, RatedSender.account(DELEGATE))

    asyncio.run(write())


def test_the_rates_of_an_account_are_shown(mailed: Desk) -> None:
    (found,) = mailed.answers("reputation", "show", DELEGATE)
    assert (found["kind"], found["account"], found["status"]) == (
        "account", DELEGATE, "HEALTHY",
    )  # fmt: skip
    assert (found["recipients"], found["bounces"], found["bounce_rate"]) == (4, 1, 0.25)
    assert (found["is_judged"], found["auto_pause"]) == (True, False)
    said = mailed.says("reputation", "show", DELEGATE)
    assert "25.00 % (1)" in said
    assert "Healthy" in said


@rows("whose", [IDENTITY, DOMAIN])
def test_an_identity_is_shown_with_its_delegates(mailed: Desk, whose: str) -> None:
    (found,) = mailed.answers("reputation", "show", whose)
    assert (found["kind"], found["account"], found["owner"], found["name"]) == (
        "delegate", DELEGATE, OWNER, "ses-example.com",
    )  # fmt: skip
    assert (found["recipients"], found["bounces"], found["is_judged"]) == (4, 1, False)
    assert "not judged" in mailed.says("reputation", "show", whose)


def test_a_delegate_is_paused_on_an_identity_and_resumed(stocked: Desk) -> None:
    assert stocked.says("reputation", "list") == "all senders are healthy\n"
    said = stocked.says("reputation", "pause", *ON_IDENTITY, "--reason", "contract over")
    assert said == f"account {DELEGATE} is paused on {DOMAIN}\n"
    (found,) = stocked.answers("reputation", "list", "--account", OWNER)
    assert (found["status"], found["paused_by"]) == ("SHUTDOWN", "owner")
    assert found["paused_reason"] == "contract over"
    said = stocked.says("reputation", "list")
    assert "the identity's owner" in said
    assert stocked.says("reputation", "resume", *ON_IDENTITY) == (
        f"account {DELEGATE} may send by {DOMAIN} again\n"
    )
    assert stocked.answers("reputation", "list") == []


def test_an_account_that_was_paused_for_its_rates_is_resumed_and_begins_again(
    stocked: Desk,
) -> None:
    pause_account(stocked)
    account = stocked.answers("account", "show", DELEGATE)
    assert (account["status"], account["enforcement_status"]) == ("active", "SHUTDOWN")
    said = stocked.says("reputation", "list")
    assert "Sending pause" in said
    assert "the gate, for its rates" in said
    assert RATE in " ".join(said.split())
    said = stocked.says("reputation", "resume", DELEGATE)
    assert said == f"account {DELEGATE} may send again\n"
    (found,) = stocked.answers("reputation", "list")
    assert (found["status"], found["bounce_state"]) == ("PROBATION", "under-review")
    said = stocked.says("reputation", "reset", DELEGATE)
    assert said == f"account {DELEGATE} is judged from now on\n"
    assert stocked.answers("reputation", "list") == []


def test_owners_have_delegates_and_sets_judged(mailed: Desk) -> None:
    said = mailed.says("reputation", "set", "--identity", IDENTITY, "--auto-pause")
    assert said == f"delegates on {DOMAIN}: judged, and paused for their rates\n"
    (found,) = mailed.answers("reputation", "show", IDENTITY)
    assert (found["is_judged"], found["auto_pause"]) == (True, True)
    said = mailed.says("reputation", "set", "--configuration-set", SET)
    assert said == f"configuration set {SET}: judged\n"
    assert [one["kind"] for one in mailed.answers("reputation", "show", DELEGATE)] == [
        "account",
        "set",
    ]
    said = mailed.says("reputation", "set", "--configuration-set", SET, "--no-metrics")
    assert said == f"configuration set {SET}: not judged\n"
    reset = mailed.says("reputation", "reset", *ON_IDENTITY)
    assert reset == f"account {DELEGATE} is judged by what it sends by {DOMAIN} from now on\n"


@rows(
    "words, problem",
    [
        (("show", "x"), "names no identity"),
        (("resume", DELEGATE), f"account {DELEGATE} is not paused"),
        (("resume", *ON_IDENTITY), "is not paused"),
        (("pause", OWNER, "--identity", IDENTITY, "--reason", "x"), f"account {OWNER} owns"),
        (("set",), "name one of --identity and --configuration-set"),
        (
            ("set", "--identity", IDENTITY, "--no-metrics", "--auto-pause"),
            "only what is judged",
        ),
        (("show", "123456789012"), "there is no account 123456789012"),
    ],
)
def test_what_makes_no_sense_is_refused(
    mailed: Desk, words: tuple[str, ...], problem: str
) -> None:
    result = mailed.give("reputation", *words)
    assert result.exit_code != 0
    assert problem in " ".join(result.output.split())


def test_without_a_journal_there_are_no_rates(stocked: Desk) -> None:
    result = stocked.give("reputation", "show", DELEGATE)
    assert result.exit_code == 1
    assert "journal" in result.output


def test_json_has_all_that_is_known(stocked: Desk) -> None:
    pause_account(stocked)
    (found,) = json.loads(stocked.says("reputation", "list", "--json"))
    assert found.keys() == {
        "kind", "account", "owner", "name", "status", "bounce_state", "complaint_state",
        "changed_at", "fresh_start_at", "paused_by", "paused_reason", "paused_at", "since",
        "recipients", "bounces", "bounce_rate", "complaints", "complaint_rate",
    }  # fmt: skip
