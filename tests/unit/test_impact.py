"""Impact: a proposed policy against requests that were recorded."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import pytest
from msgspec import structs

from smtpgate.core.account import Account, Principal, SendingLimits
from smtpgate.core.address import Mailbox
from smtpgate.core.arn import IdentityArn, user_arn
from smtpgate.core.events import UsedIdentity
from smtpgate.core.history.record import Record
from smtpgate.core.identity import Identity
from smtpgate.core.message.author import Author, parse_authors
from smtpgate.core.policy import Policy, parse_policy
from smtpgate.core.whatif.impact import ALLOWED, Impact, ProposedPolicy, impact_of
from smtpgate.journal.rows import record_of, row_of
from tests.support.clock import MovableClock
from tests.support.journal import IDENTITY_POLICY, USER_POLICY, submission
from tests.support.records import submission_record
from tests.support.world import DELEGATE, IDENTITY

MAILER: Final = Principal(
    Account(DELEGATE, "Delegate sender", SendingLimits(-1, -1)),
    "mailer",
    user_arn(DELEGATE, "mailer"),
    "AIDA",
    (USER_POLICY,),
)
CLOCK: Final = MovableClock()


def record(local_part: str, **more: Any) -> Record:  # noqa: ANN401 - as Record has them
    """A message of the delegate with another From, from the same address."""
    kept = submission_record(submission(CLOCK), keep_recipients=True, keep_subject=False)
    mailbox = Mailbox(local_part, "ses-example.com")
    author = Author(None, mailbox)
    return structs.replace(kept, authors=(author,), reverse_path=mailbox, **more)


def allowing(*local_parts: str, name: str = "marketing", condition: str = "") -> Policy:
    addresses = ", ".join(f'"{one}@ses-example.com"' for one in local_parts)
    return parse_policy(
        f'{{"Version": "2012-10-17", "Statement": {{"Effect": "Allow", "Principal": '
        f'{{"AWS": "{DELEGATE}"}}, "Action": "ses:SendRawEmail", "Resource": "{IDENTITY}", '
        f'"Condition": {{"StringEquals": {{"ses:FromAddress": [{addresses}]}}{condition}}}}}}}',
        kind="identity",
        name=name,
    )


def weighed(
    policy: Policy, records: Sequence[Record], *, principals: Sequence[Principal] = (MAILER,)
) -> Impact:
    identity = Identity(IdentityArn.parse(IDENTITY), True, (IDENTITY_POLICY,))
    return impact_of(
        ProposedPolicy(IDENTITY, policy),
        records,
        principals={one.arn: one for one in principals},
        known={"ses-example.com": (identity,)},
        region="us-east-1",
        infer_arn=True,
    )


def test_a_policy_that_says_the_same_changes_nothing() -> None:
    output = weighed(allowing("marketing"), [record("marketing"), record("ceo")])
    assert (output.looked_at, output.examples, dict(output.newly_allowed)) == (2, (), {})


def test_a_policy_of_the_same_name_takes_the_other_s_place() -> None:
    output = weighed(allowing("ceo"), [record("marketing"), record("marketing"), record("ceo")])
    assert dict(output.newly_refused) == {(MAILER.arn, "marketing@ses-example.com"): 2}
    assert dict(output.newly_allowed) == {(MAILER.arn, "ceo@ses-example.com"): 1}
    assert [(one.as_now, one.as_proposed) for one in output.examples] == [
        ("implicit-deny", ALLOWED),
        (ALLOWED, "implicit-deny"),
        (ALLOWED, "implicit-deny"),
    ]


def test_a_policy_of_another_name_stands_beside_it() -> None:
    output = weighed(allowing("ceo", name="board"), [record("marketing"), record("ceo")])
    assert not output.newly_refused
    assert sum(output.newly_allowed.values()) == 1


def test_the_recorded_time_client_and_recipients_are_asked() -> None:
    records = [record("ceo")]
    for condition, allowed in (
        (', "IpAddress": {"aws:SourceIp": "192.0.2.0/24"}', 1),
        (', "IpAddress": {"aws:SourceIp": "198.51.100.0/24"}', 0),
        (', "DateLessThan": {"aws:CurrentTime": "2026-11-24T00:00:00Z"}', 1),
        (', "DateLessThan": {"aws:CurrentTime": "2026-11-23T00:00:00Z"}', 0),
        (', "Bool": {"aws:SecureTransport": "true"}', 1),
        (', "ForAllValues:StringLike": {"ses:Recipients": "*@example.net"}', 1),
        (', "ForAllValues:StringLike": {"ses:Recipients": "*@example.org"}', 0),
    ):
        output = weighed(allowing("ceo", name="board", condition=condition), records)
        assert sum(output.newly_allowed.values()) == allowed, condition


def test_the_sender_is_as_it_is_now() -> None:
    records = [record("ceo")]
    output = weighed(
        allowing("ceo"), records, principals=[structs.replace(MAILER, policies=())]
    )
    assert not output.newly_allowed
    output = weighed(allowing("ceo"), records, principals=())
    assert dict(output.unclear) == {"sender-gone": 1}
    assert output.looked_at == 1


def test_a_relay_s_report_is_decided_again_as_one() -> None:
    mailbox = Mailbox("marketing", "ses-example.com")
    report = structs.replace(
        record("MAILER-DAEMON"),
        reverse_path=None,
        identities=(UsedIdentity("report", mailbox, IDENTITY, "inferred"),),
    )
    assert "ses-example.com" in report.parties.names
    assert not weighed(allowing("marketing"), [report]).examples
    output = weighed(allowing("ceo"), [report])
    assert [(one.as_now, one.as_proposed) for one in output.examples] == [
        (ALLOWED, "implicit-deny")
    ]


def test_resent_from_is_asked_as_it_was() -> None:
    resent = record("marketing", resent=(Author(None, Mailbox("ceo", "ses-example.com")),))
    assert not weighed(allowing("marketing"), [resent]).newly_allowed
    assert weighed(allowing("marketing", "ceo"), [resent]).newly_allowed


def test_a_name_with_a_comment_is_asked_in_both_readings_as_it_was() -> None:
    # The From `Shop (CEO) <ceo@ses-example.com>': some programs show the comment, some do not.
    authors = parse_authors(b"Shop (CEO) <ceo@ses-example.com>", smtputf8=False)
    row, texts = row_of(structs.replace(record("ceo"), authors=authors))
    kept = record_of(row, texts)
    for name, allowed in (("Shop*", 1), ("Shop", 0), ("Shop (CEO)", 0)):
        condition = f', "StringLike": {{"ses:FromDisplayName": "{name}"}}'
        output = weighed(allowing("ceo", name="board", condition=condition), [kept])
        assert sum(output.newly_allowed.values()) == allowed, name


def test_recipients_that_were_not_kept_make_only_what_asks_for_them_unclear() -> None:
    records = [record("ceo", forward_paths=None)]
    condition = ', "ForAllValues:StringLike": {"ses:Recipients": "*@example.net"}'
    output = weighed(allowing("ceo", condition=condition), records)
    assert dict(output.unclear) == {"recipients-not-kept": 1}
    output = weighed(allowing("ceo"), records)
    assert not output.unclear
    assert sum(output.newly_allowed.values()) == 1
    variable = allowing("${ses:Recipients}", "ceo")
    assert dict(weighed(variable, records).unclear) == {"recipients-not-kept": 1}


def test_what_never_came_before_the_policies_is_left_out() -> None:
    assert weighed(allowing("ceo"), [structs.replace(record("ceo"), authors=())]) == Impact()


def test_what_today_decides_differently_anyhow_is_counted_apart() -> None:
    # Then it was allowed, by a policy that is gone; now it is not.
    output = weighed(allowing("marketing"), [record("ceo"), record("marketing")])
    assert output.drifted == 1
    refused = record("ceo", decision=None, reason="not-verified")
    assert weighed(allowing("marketing"), [refused]).drifted == 0


def test_two_impacts_add_up() -> None:
    records = [record("marketing"), record("ceo"), record("ceo", forward_paths=None)]
    policy = allowing("ceo", condition=', "Null": {"ses:Recipients": "false"}')
    one, other = weighed(policy, records[:1]), weighed(policy, records[1:])
    whole = weighed(policy, records)
    assert one + other == replace(whole, examples=(one + other).examples)
    assert set((one + other).examples) == set(whole.examples)
    assert Impact() + whole == whole


def test_only_some_examples_are_kept() -> None:
    output = weighed(allowing("ceo"), [record("ceo") for _ in range(50)])
    assert sum(output.newly_allowed.values()) == 50
    assert len(output.examples) == 20


@pytest.mark.parametrize("identity", ["another@ses-example.com", "example.com"])
def test_another_identity_s_policy_changes_nothing(identity: str) -> None:
    arn = IDENTITY.replace("ses-example.com", identity)
    policy = ProposedPolicy(arn, allowing("ceo"))
    known = {"ses-example.com": (Identity(IdentityArn.parse(IDENTITY), True),)}
    assert policy.put_into(known) == known
