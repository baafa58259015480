"""A decision that is used again is the one that would be made again."""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct, structs

from smtpgate.authorizing import Authorizer
from smtpgate.core.account import AccessKey, Account, Principal, SendingLimits
from smtpgate.core.address import Mailbox, ReversePath, parse_mailbox
from smtpgate.core.arn import IdentityArn, user_arn
from smtpgate.core.authorization.context import author_context, submission_context
from smtpgate.core.authorization.roles import Authorization
from smtpgate.core.events import SubmissionDone
from smtpgate.core.identity import Identity
from smtpgate.core.message.author import Author
from smtpgate.core.message.envelope import SEND_RAW_EMAIL, Client, Envelope, Submission
from smtpgate.core.message.reading import ReadMessage, read_message
from smtpgate.core.policy import Policy, PolicyKind, parse_policy
from smtpgate.core.policy.keys import is_of_message
from smtpgate.core.reply import Reject
from smtpgate.core.secret import Secret
from smtpgate.ports import Validity
from smtpgate.tasks import LoopTurns, Offload, Threads
from tests.support.clock import MovableClock
from tests.support.rows import rows

DELEGATE: Final = "999999999999"
OWNER: Final = "888888888888"
REGION: Final = "us-east-1"
NAME: Final = "ses-example.com"
KEY_ID: Final = "AKIAIOSFODNN7EXAMPLE"
MARKETING: Final = f"marketing@{NAME}"


def policy(kind: PolicyKind, condition: dict[str, Any], effect: str = "Allow") -> Policy:
    statement = {"Effect": effect, "Action": "ses:*", "Resource": "*", "Condition": condition}
    if kind == "identity":
        statement["Principal"] = {"AWS": DELEGATE}
    document = {"Version": "2012-10-17", "Statement": [statement]}
    return parse_policy(json.dumps(document), kind=kind, name=f"the-{kind}")


class KnownNow:
    """A directory with one access key and one identity; each can be replaced."""

    def __init__(self, condition: dict[str, Any] | None = None) -> None:
        account = Account(DELEGATE, "x", SendingLimits(-1, -1))
        arn = user_arn(DELEGATE, "mailer")
        may_send = (policy("user", {}),)
        self.principal = Principal(account, "mailer", arn, "AIDA", may_send)
        self.key: AccessKey | None = AccessKey(KEY_ID, Secret("x"), self.principal)
        self.identity = Identity(
            IdentityArn("aws", REGION, OWNER, NAME),
            is_verified=True,
            policies=(policy("identity", condition or {}),),
        )
        self._found: tuple[Identity, Sequence[Identity]] | None = None
        self.validity: Validity | None = None
        self.questions = 0

    async def access_key(self, _key_id: str) -> AccessKey | None:
        self.questions += 1
        return self.key

    async def identities(self, name: str) -> Sequence[Identity]:
        self.questions += 1
        if name != NAME:
            return ()
        if self._found is None or self._found[0] is not self.identity:
            self._found = self.identity, (self.identity,)
        return self._found[1]

    def validity_of(
        self, _key: AccessKey, _identities: Mapping[str, Sequence[Identity]]
    ) -> Validity | None:
        return self.validity

    def is_valid(self, validity: Validity) -> bool:
        return validity is self.validity

    def set_policy(self, condition: dict[str, Any], effect: str = "Allow") -> None:
        policies = (policy("identity", condition, effect),)
        self.identity = structs.replace(self.identity, policies=policies)


class Letter(Struct, frozen=True):
    """A message, as far as a decision may depend on it."""

    author: str = MARKETING
    path: str = MARKETING
    recipient: str = "jane@example.net"
    address: str = "192.0.2.7"
    is_tls: bool = True
    fields: str = ""
    later_s: int = 0


class Desk:
    """An authorizer over a directory of its own."""

    def __init__(self, known: KnownNow) -> None:
        self.known, self.clock = known, MovableClock()
        self.authorizer = new_authorizer(known, self.clock)

    def submission(self, letter: Letter) -> tuple[Submission, ReadMessage]:
        text = f"{letter.fields}From: {letter.author}\r\n\r\nHello.\r\n".encode()
        client = Client(
            address=letter.address,
            listener="submission",
            protocol="ESMTPSA",
            is_tls=letter.is_tls,
            access_key_id=KEY_ID,
            account_id=DELEGATE,
        )
        path: Mailbox | None = parse_mailbox(letter.path) if letter.path else None
        submission = Submission(
            message_id="1",
            principal=self.known.principal,
            client=client,
            action=SEND_RAW_EMAIL,
            envelope=Envelope.of(ReversePath(path), [parse_mailbox(letter.recipient)]),
            message=text,
            received_at=self.clock.now() + timedelta(seconds=letter.later_s),
        )
        return submission, read_message(text, smtputf8=False)

    async def ask(
        self, letter: Letter | None = None, authorizer: Authorizer | None = None
    ) -> Authorization:
        submission, message = self.submission(letter or Letter())
        done = SubmissionDone(submission=submission)
        found = await (authorizer or self.authorizer).authorize(message, done)
        assert (done.identities, done.decision) == (found.identities, found.decision)
        return found

    async def refusal(self, letter: Letter | None = None) -> str:
        with pytest.raises(Reject) as raised:
            await self.ask(letter)
        return raised.value.reason


def new_authorizer(known: KnownNow, clock: MovableClock) -> Authorizer:
    return Authorizer(
        hostname="gate.example",
        region=REGION,
        infer_arn=True,
        directory=known,
        clock=clock,
        offload=Offload(LoopTurns(lambda: 0.0), Threads("message")),
    )


async def test_messages_that_are_alike_have_one_decision() -> None:
    desk = Desk(KnownNow())
    first = await desk.ask()
    assert await desk.ask(Letter(recipient="joe@example.net", later_s=60)) is first


@rows(
    "note, letter",
    [
        ("another From", Letter(author=f"news@{NAME}")),
        ("another name in From", Letter(author=f"News <{MARKETING}>")),
        ("a Sender", Letter(fields=f"Sender: {MARKETING}\r\n")),
        ("a Resent-From", Letter(fields=f"Resent-From: {MARKETING}\r\n")),
        ("another return path", Letter(path=f"bounces@{NAME}")),
        ("no return path", Letter(path="")),
        ("another client", Letter(address="192.0.2.8")),
        ("no TLS", Letter(is_tls=False)),
        ("a tag", Letter(fields="X-SES-MESSAGE-TAGS: a=b\r\n")),
    ],
)
async def test_a_message_that_differs_has_a_decision_of_its_own(
    note: str, letter: Letter
) -> None:
    desk = Desk(KnownNow())
    first = await desk.ask()
    assert await desk.ask(letter) is not first, note
    assert await desk.ask() is first


async def test_another_object_of_the_directory_is_judged_by_itself() -> None:
    known = KnownNow()
    desk = Desk(known)
    first = await desk.ask()
    known.identity = structs.replace(known.identity)
    second = await desk.ask()
    assert second is not first
    known.principal = structs.replace(known.principal)
    known.key = AccessKey(KEY_ID, Secret("x"), known.principal)
    assert await desk.ask() is not second


async def test_what_the_directory_takes_away_is_refused_at_once() -> None:
    known = KnownNow()
    desk = Desk(known)
    before = known.identity
    await desk.ask()
    known.set_policy({}, "Deny")
    assert await desk.refusal() == "not-verified"
    known.identity = structs.replace(before, paused_reason="it is")
    assert await desk.refusal() == "identity-paused"
    known.identity = before
    await desk.ask()
    known.principal = structs.replace(known.principal, policies=())
    known.key = AccessKey(KEY_ID, Secret("x"), known.principal)
    assert await desk.refusal() == "implicit-deny"
    known.key = None
    assert await desk.refusal() == "access-key-inactive"


async def test_while_its_answers_are_valid_the_directory_is_asked_for_none() -> None:
    known = KnownNow()
    desk = Desk(known)
    known.validity = Validity(0, 60.0, 3)
    first = await desk.ask()
    asked = known.questions
    assert await desk.ask() is first
    assert known.questions == asked
    known.validity = Validity(1, 60.0, 3)
    assert await desk.ask() is first
    assert known.questions > asked
    asked = known.questions
    assert await desk.ask() is first
    assert known.questions == asked


async def test_answers_that_are_valid_no_longer_are_compared() -> None:
    known = KnownNow()
    desk = Desk(known)
    known.validity = Validity(0, 60.0, 3)
    await desk.ask()
    known.set_policy({}, "Deny")
    known.validity = Validity(1, 60.0, 3)
    assert await desk.refusal() == "not-verified"


async def test_a_key_that_expires_is_refused_while_the_answers_are_valid() -> None:
    known = KnownNow()
    desk = Desk(known)
    known.validity = Validity(0, 60.0, 3)
    expires_at = desk.clock.now() + timedelta(seconds=10)
    known.key = AccessKey(KEY_ID, Secret("x"), known.principal, expires_at=expires_at)
    await desk.ask()
    desk.clock.move(9)
    await desk.ask()
    desk.clock.move(1)
    assert await desk.refusal() == "access-key-expired"


async def test_the_limits_of_the_key_are_those_of_its_valid_answer() -> None:
    known = KnownNow()
    desk = Desk(known)
    for gone, limits in enumerate((SendingLimits(5, 1), SendingLimits(7, 1))):
        known.validity = Validity(gone, 60.0, 3)
        known.key = AccessKey(KEY_ID, Secret("x"), known.principal, limits=limits)
        for _ in range(2):
            submission, message = desk.submission(Letter())
            done = SubmissionDone(submission=submission)
            await desk.authorizer.authorize(message, done)
            assert done.submission.key_limits == limits
    assert len(desk.authorizer) == 1


async def test_a_decision_that_is_forgotten_while_the_directory_is_asked_stays_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = KnownNow()
    desk = Desk(known)
    first, ask = await desk.ask(), known.identities

    async def meanwhile(name: str) -> Sequence[Identity]:
        for alike in tuple(desk.authorizer._kept):
            desk.authorizer._forget(alike)
        return await ask(name)

    monkeypatch.setattr(known, "identities", meanwhile)
    assert await desk.ask() is first
    assert len(desk.authorizer) == 0


@rows(
    "note, condition",
    [
        (
            "recipients",
            {"ForAllValues:StringEquals": {"ses:Recipients": "jane@example.net"}},
        ),
        ("time", {"DateLessThan": {"aws:EpochTime": "1800000000"}}),
        ("time in a variable", {"StringEquals": {"ses:FromAddress": "${aws:CurrentTime}"}}),
        ("a key that is not known", {"Null": {"other:Key": "true"}}),
    ],
)
def test_a_policy_may_ask_for_what_is_of_one_message(
    note: str, condition: dict[str, Any]
) -> None:
    assert policy("identity", condition).asks_of_message, note


async def test_a_policy_that_asks_for_recipients_judges_each_message() -> None:
    jane = {"ForAllValues:StringEquals": {"ses:Recipients": "jane@example.net"}}
    desk = Desk(KnownNow(jane))
    first = await desk.ask()
    assert await desk.refusal(Letter(recipient="joe@example.net")) == "implicit-deny"
    assert await desk.ask() is not first


def test_alike_messages_have_other_values_only_of_keys_of_one_message() -> None:
    desk = Desk(KnownNow())
    letters = Letter(), Letter(recipient="joe@example.net", later_s=60)
    one, other = (
        author_context(
            submission_context(desk.submission(letter)[0], REGION),
            Author(None, parse_mailbox(MARKETING)),
        )
        for letter in letters
    )
    differing = {key for key in one if one[key] != other[key]}
    assert differing == {"aws:currenttime", "aws:epochtime", "ses:recipients"}
    assert one.keys() == other.keys()
    assert {key for key in one if is_of_message(key)} == differing


CONDITIONS: Final[list[dict[str, Any]]] = [
    {},
    {"StringLike": {"ses:FromAddress": f"marketing*@{NAME}"}},
    {"StringEquals": {"ses:FromDisplayName": "News"}},
    {"IpAddress": {"aws:SourceIp": "192.0.2.7"}},
    {"Bool": {"aws:SecureTransport": "true"}},
    {"StringEquals": {"ses:FeedbackAddress": MARKETING}},
    {"ForAllValues:StringLike": {"ses:Recipients": "jane@*"}},
    {"ForAnyValue:StringEquals": {"smtpgate:MessageTag/a": "b"}},
    {"StringEquals": {"aws:username": "mailer"}},
]
LETTERS: Final = st.builds(
    Letter,
    author=st.sampled_from([MARKETING, f"News <{MARKETING}>", f"news@{NAME}", "a@example.org"]),
    path=st.sampled_from([MARKETING, f"news@{NAME}", ""]),
    recipient=st.sampled_from(["jane@example.net", "joe@example.net"]),
    address=st.sampled_from(["192.0.2.7", "192.0.2.8"]),
    is_tls=st.booleans(),
    fields=st.sampled_from(["", "X-SES-MESSAGE-TAGS: a=b\r\n", f"Sender: {MARKETING}\r\n"]),
)
STEPS: Final = st.lists(st.one_of(LETTERS, st.sampled_from(CONDITIONS)), max_size=12)


@pytest.mark.property
@given(STEPS)
async def test_a_decision_that_is_kept_is_the_one_that_is_made(
    steps: list[Letter | dict[str, Any]],
) -> None:
    desk = Desk(KnownNow())
    for step in steps:
        if not isinstance(step, Letter):
            desk.known.set_policy(step)
            continue
        without_memory = new_authorizer(desk.known, desk.clock)
        try:
            wanted: object = await desk.ask(step, without_memory)
        except Reject as refusal:
            wanted = refusal.reason
        try:
            found: object = await desk.ask(step)
        except Reject as refusal:
            found = refusal.reason
        assert found == wanted


async def test_a_bounded_number_of_decisions_is_kept() -> None:
    desk = Desk(KnownNow())
    for number in range(600):
        await desk.ask(numbered(number))
        assert len(desk.authorizer) == min(number + 1, 512)
    last = await desk.ask(numbered(599))
    assert await desk.ask(numbered(600 - 512)) is not last
    assert await desk.ask(numbered(599)) is last


def numbered(number: int) -> Letter:
    return Letter(path=f"bounces+{number}@{NAME}")


def not_from(octets: int) -> dict[str, Any]:
    """A condition of so many octets or a few more."""
    return {"StringNotEquals": {"ses:FromAddress": "x" * octets}}


async def test_decisions_keep_a_bounded_amount_of_policies_in_memory() -> None:
    desk = Desk(KnownNow(not_from(64 * 1024)))
    for number in range(100):
        desk.known.set_policy(not_from(64 * 1024))
        await desk.ask(numbered(number))
        assert len(desk.authorizer) <= 2 * 1024 // 64
    last = await desk.ask(numbered(99))
    assert await desk.ask(numbered(99)) is last


async def test_a_decision_that_is_made_again_counts_once() -> None:
    desk = Desk(KnownNow(not_from(64 * 1024)))
    first = await desk.ask(numbered(1))
    for _ in range(100):
        desk.known.set_policy(not_from(64 * 1024))
        await desk.ask(numbered(2))
    assert await desk.ask(numbered(1)) == first
    assert len(desk.authorizer) == 2


async def test_no_decision_is_kept_that_keeps_very_much_in_memory() -> None:
    desk = Desk(KnownNow(not_from(256 * 1024)))
    await desk.ask()
    assert not len(desk.authorizer)
