from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from smtpgate.core.proof.dkim_record import compare
from smtpgate.core.proof.dns_record import DnsRecord
from smtpgate.core.proof.observation import (
    Absent,
    Found,
    Observation,
    Unanswered,
    combined,
)
from smtpgate.core.proof.ownership import token_seen
from smtpgate.core.proof.verification import (
    NOT_STARTED,
    Verification,
    begin,
    begin_by_mail,
    confirmed_by_mail,
    observed,
    problem_kind,
    status_of,
    trusted,
)
from tests.support.cases import load_cases
from tests.support.rows import rows

START: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
MIDDLE: Final = 0.5  # the jitter that moves nothing
GONE: Final = Absent("no TXT record at _smtpgate.example.com")
SEEN: Final[dict[str, Observation]] = {
    "txt": Found("txt"),
    "dkim": Found("dkim"),
    "absent": GONE,
    "unanswered": Unanswered("SERVFAIL"),
}


def moment(text: str) -> datetime:
    hours, minutes = text.removeprefix("-").split(":")
    after = timedelta(hours=int(hours), minutes=int(minutes))
    return START - after if text.startswith("-") else START + after


def after(current: Verification, step: dict[str, Any], now: datetime) -> Verification:
    match step:
        case {"sees": str(seen)}:
            return observed(current, SEEN[seen], now, MIDDLE)
        case {"does": "begin"}:
            return begin(current, now)
        case {"does": "begin by mail"}:
            return begin_by_mail(current, now)
        case {"does": "confirm"}:
            return confirmed_by_mail(current, now)
        case {"does": "vouch"}:
            return trusted(now)
    raise AssertionError(step)


@rows("case", load_cases("verification/10-timeline.toml"), ids=lambda case: case["note"])
def test_an_identity_lives_as_the_table_says(case: dict[str, Any]) -> None:
    current = NOT_STARTED
    for step in case["steps"]:
        now = moment(step["at"])
        current = after(current, step, now)
        minutes = step.get("next_min")
        planned = None if minutes is None else now + timedelta(minutes=minutes)
        assert current.next_check_at == planned, step
        assert (current.state, current.method) == (step["state"], step.get("method")), step
        assert status_of(current, now) == step.get("status", step["state"]), step
        missing = moment(step["missing"]) if "missing" in step else None
        assert current.missing_since == missing, step
        assert current.is_verified == (step["state"] == "success"), step
        assert (current.verified_at is not None) == current.is_verified, step


def test_what_was_never_begun_is_reported_so_and_takes_no_answers() -> None:
    assert status_of(NOT_STARTED, START) == "not-started"
    assert observed(NOT_STARTED, Found("txt"), START, MIDDLE) is NOT_STARTED


def test_the_problem_is_what_the_last_answer_said() -> None:
    current = begin(NOT_STARTED, START)
    assert (current.problem, current.checked_at) == ("", None)
    now = START + timedelta(minutes=1)
    current = observed(current, GONE, now, MIDDLE)
    assert (current.problem, current.checked_at) == (GONE.seen, now)
    current = observed(current, Unanswered("SERVFAIL"), now, MIDDLE)
    assert current.problem == "SERVFAIL"
    assert observed(current, Found("txt"), now, MIDDLE).problem == ""


def test_a_failure_says_what_was_waited_for_without_result() -> None:
    late = START + timedelta(hours=72)
    failed = observed(begin(NOT_STARTED, START), GONE, late, MIDDLE)
    assert failed.problem == f"the record was not found within 72 hours: {GONE.seen}"
    current = observed(begin(NOT_STARTED, START), Found("txt"), START, MIDDLE)
    current = observed(current, GONE, START, MIDDLE)
    lost = observed(current, GONE, late, MIDDLE)
    assert lost.problem == f"the record has been gone for 72 hours: {GONE.seen}"
    assert (lost.started_at, lost.checked_at) == (START, late)


def test_a_success_keeps_the_moment_at_which_it_became_one() -> None:
    current = observed(begin(NOT_STARTED, START), Found("txt"), START, MIDDLE)
    current = observed(current, GONE, START + timedelta(hours=7), MIDDLE)
    current = observed(current, Found("txt"), START + timedelta(hours=8), MIDDLE)
    assert current.verified_at == START


def test_a_code_that_comes_without_a_beginning_verifies() -> None:
    current = confirmed_by_mail(NOT_STARTED, START)
    assert (current.state, current.started_at, current.verified_at) == ("success", START, START)


def test_an_address_verified_from_the_dns_needs_no_code() -> None:
    current = observed(begin(NOT_STARTED, START), Found("txt"), START, MIDDLE)
    assert confirmed_by_mail(current, START + timedelta(hours=1)) == current
    assert begin_by_mail(current, START) == current


def test_a_failed_address_can_be_mailed_to_again() -> None:
    failed = Verification(state="failed", started_at=START)
    later = START + timedelta(hours=1)
    assert begin_by_mail(failed, later) == Verification(state="pending", started_at=later)


def test_a_waiting_address_can_be_looked_for_in_the_dns_instead() -> None:
    waiting = begin_by_mail(NOT_STARTED, START)
    later = START + timedelta(hours=1)
    assert begin(waiting, later) == replace(waiting, started_at=later, next_check_at=later)


TOKEN: Final = DnsRecord("_smtpgate.example.com", "token")
KEY: Final = "v=DKIM1; k=rsa; p=AAAA"


def problem_of(*seen: Observation) -> str:
    """The problem of a pending domain after observations at its names."""
    return observed(begin(NOT_STARTED, START), combined(seen), START, 0).problem


@rows(
    "problem, kind",
    [
        ("", None),
        (problem_of(token_seen(TOKEN, ())), "absent"),
        (problem_of(token_seen(TOKEN, ()), compare((), KEY).observation), "absent"),
        (problem_of(token_seen(TOKEN, (b"other",))), "differs"),
        (problem_of(token_seen(TOKEN, (b"one", b"two"))), "differs"),
        *(
            (problem_of(token_seen(TOKEN, ()), compare(published, KEY).observation), "differs")
            for published in (
                (b"v=DKIM1; p=BBBB",),
                (b"v=DKIM1; p=",),
                (b"nonsense",),
                (KEY.encode(), KEY.encode()),
            )
        ),
        (problem_of(Unanswered("'example.com': SERVFAIL")), "unanswered"),
        ("the record was not found within 72 hours: no TXT record at example.com", "absent"),
    ],
)
def test_a_problem_is_of_the_kinds_of_ses(problem: str, kind: str | None) -> None:
    assert problem_kind(problem) == kind
