"""Records as rows: whatever is put in comes out the same, statements' texts and all."""

import json
from datetime import UTC, datetime, timedelta
from typing import Final, get_args

from hypothesis import given
from hypothesis import strategies as st

from smtpgate.core.address import Mailbox
from smtpgate.core.arn import IdentityArn
from smtpgate.core.events import Role, Stage, UsedIdentity
from smtpgate.core.history.record import (
    LimitState,
    Record,
    RecordKind,
    RecordOutcome,
)
from smtpgate.core.limits import Subject, SubjectKind
from smtpgate.core.message.author import Author
from smtpgate.core.message.envelope import Client, SmtpFacts
from smtpgate.core.message.intent import SendingIntent
from smtpgate.core.policy import Decision, Determining, NearestMiss, Outcome, PolicyKind, Side
from smtpgate.core.reply import Reply
from smtpgate.journal.rows import digests_in, record_of, row_of, with_verdict
from tests.support.world import DELEGATE, OWNER

ACCOUNT: Final = DELEGATE
ANYTHING: Final = st.text(max_size=40)
SOME: Final = st.none() | ANYTHING
COUNTS: Final = st.integers(-1, 2**40)
MOMENTS: Final = st.integers(0, 4 * 10**15).map(
    lambda us: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
)
DOMAINS: Final = st.sampled_from(("example.com", "sub.ses-example.com", "[192.0.2.1]"))
MAILBOXES: Final = st.builds(Mailbox, ANYTHING, DOMAINS)
AUTHORS: Final = st.builds(Author, SOME, MAILBOXES, st.lists(ANYTHING, max_size=2).map(tuple))
ARNS: Final = st.builds(
    IdentityArn,
    st.just("aws"),
    st.sampled_from(("us-east-1", "*")),
    st.just(OWNER),
    DOMAINS | st.just("a:b/c@example.com"),
)
REPLIES: Final = st.builds(
    lambda digit, text: Reply(digit * 100 + 50, f"{digit}.1.0", text),
    st.sampled_from((2, 4, 5)),
    ANYTHING,
)


def words(literal: object) -> st.SearchStrategy[str]:
    return st.sampled_from(get_args(literal))


KINDS: Final = words(PolicyKind)
CITED: Final = st.builds(Determining, KINDS, ANYTHING, SOME, st.integers(0, 99), ANYTHING)
MISSES: Final = st.none() | st.builds(
    NearestMiss,
    KINDS,
    ANYTHING,
    SOME,
    st.integers(0, 99),
    ANYTHING,
    ANYTHING,
    ANYTHING,
    ANYTHING,
)


def sides(name: str) -> st.SearchStrategy[Side]:
    cited = st.lists(CITED, max_size=3).map(tuple)
    outcomes = st.sampled_from(get_args(Outcome))
    return st.builds(Side, st.just(name), outcomes, st.booleans(), cited, MISSES, st.booleans())


@st.composite
def decisions(draw: st.DrawFn) -> Decision:
    """As the engine makes them: what decided is cited by a side, what came closest is its."""
    user, identity = draw(sides("user")), draw(sides("identity"))
    cited = (*user.cited, *identity.cited)
    determining = draw(st.lists(st.sampled_from(cited))) if cited else []
    strangers = draw(st.lists(CITED, max_size=1))
    miss = draw(st.sampled_from((user.miss, identity.miss)) | MISSES)
    outcome = draw(st.sampled_from(get_args(Outcome)))
    return Decision(outcome, (*determining, *strangers), user, identity, miss)


def client(text: str, port: int, smtp: SmtpFacts, token: str) -> Client:
    """As a record has it: without the login, which is the record's own."""
    is_tls = smtp.tls_version is not None
    return Client(
        address=text,
        port=port,
        listener=text,
        protocol=text,
        is_tls=is_tls,
        token=token,
        smtp=smtp,
    )


RECORDS: Final = st.builds(
    Record,
    id=st.just("0100-1"),
    kind=words(RecordKind),
    received_at=MOMENTS,
    done_at=st.none() | MOMENTS,
    outcome=words(RecordOutcome),
    reason=ANYTHING,
    detail=ANYTHING,
    reply=st.none() | REPLIES,
    account_id=st.just(ACCOUNT),
    user_arn=ANYTHING,
    username=ANYTHING,
    organization_id=SOME,
    tags=st.lists(st.tuples(ANYTHING, ANYTHING), max_size=3).map(tuple),
    client=st.builds(
        client,
        ANYTHING,
        st.integers(0, 65535),
        st.builds(SmtpFacts, ANYTHING, SOME, SOME, ANYTHING, ANYTHING),
        ANYTHING,
    ),
    reverse_path=st.none() | MAILBOXES,
    recipients=COUNTS,
    forward_paths=st.none() | st.lists(MAILBOXES, max_size=3).map(tuple),
    options=st.lists(ANYTHING, max_size=3).map(tuple),
    octets=COUNTS,
    subject=SOME,
    intent=st.builds(SendingIntent, *([st.none() | ARNS] * 3)),
    authors=st.lists(AUTHORS, max_size=3).map(tuple),
    sender=st.none() | AUTHORS,
    resent=st.lists(AUTHORS, max_size=2).map(tuple),
    identities=st.lists(
        st.builds(UsedIdentity, words(Role), MAILBOXES, ANYTHING, st.just("named")), max_size=3
    ).map(tuple),
    decision=st.none() | decisions(),
    limits=st.lists(
        st.builds(
            LimitState,
            st.builds(Subject, st.just(ACCOUNT), words(SubjectKind), ANYTHING),
            st.none() | COUNTS,
            COUNTS,
            st.floats(0, 1e6),
        ),
        max_size=2,
    ).map(tuple),
    uncounted=ANYTHING,
    signing_domain=SOME,
    selectors=st.lists(ANYTHING, max_size=2).map(tuple),
    upstream=SOME,
    upstream_reply=st.none() | REPLIES,
    stage_s=st.lists(st.tuples(words(Stage), st.floats(0, 1e3)), max_size=3).map(tuple),
)


def texts_of(record: Record) -> list[str]:
    """The fields that equality ignores."""
    decision = record.decision
    if decision is None:
        return []
    sides = (decision.user_side, decision.identity_side)
    cited = [*decision.determining, *(one for side in sides for one in side.cited)]
    misses = [decision.nearest_miss, *(side.miss for side in sides)]
    return [one.text for one in (*cited, *misses) if one is not None]


@given(RECORDS)
def test_a_record_that_became_a_row_is_the_same_again(record: Record) -> None:
    row, texts = row_of(record)
    again = record_of(with_verdict(row, record.verdict), texts)
    assert again == record
    assert texts_of(again) == texts_of(record)


@given(RECORDS)
def test_a_row_names_the_texts_that_it_cites_and_holds_none(record: Record) -> None:
    row, texts = row_of(record)
    assert digests_in(row) == set(texts)
    assert set(texts.values()) == {text for text in texts_of(record) if text}


@given(RECORDS)
def test_a_row_is_plain_ascii_json_and_has_nothing_that_a_database_refuses(
    record: Record,
) -> None:
    row = with_verdict(row_of(record)[0], record.verdict)
    for text in (row.facts, row.verdict):
        assert text.isascii()
        assert "\0" not in text
        assert isinstance(json.loads(text), dict)
