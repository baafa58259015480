"""The mail that asks an address to confirm its subscription."""

import re
from collections.abc import Sequence
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Final, cast

import pytest
from msgspec.structs import replace

from smtpgate.admin.gate_mail import GateMailer, MailNotSentError
from smtpgate.core.message.body import Body
from smtpgate.core.message.envelope import Envelope
from smtpgate.core.notification.names import read_endpoint, topic_name
from smtpgate.core.notification.settings import Subscription
from smtpgate.core.reason import REASONS
from smtpgate.core.reply import Reply
from smtpgate.core.secret import Secret
from smtpgate.core.upstream import Answered, Delivery, InDoubt, NotSent
from smtpgate.gate.confirmer import MailConfirmer
from smtpgate.ports import DeliveryAttempt
from smtpgate.webhooks.carrier import SnsFace
from tests.support.clock import MovableClock
from tests.support.events import AT
from tests.support.rows import rows
from tests.unit.test_webhook_carrier import SUBSCRIPTION, TOPIC, Signer

TOKEN: Final = Secret("0123456789abcdef" * 4)
EMAIL: Final = Subscription(
    arn=str(SUBSCRIPTION), topic_arn=str(TOPIC), form="email", endpoint="boss@example.com"
)


class Upstream:
    """Takes every mail, or refuses it."""

    extensions: frozenset[str] | None = None
    max_octets: int | None = None
    max_recipients: int | None = None
    max_recipient_domains: int | None = None

    def __init__(self, reply: str = "250 2.0.0 Ok") -> None:
        self.taken: list[tuple[Envelope, bytes]] = []
        code, enhanced, text = reply.split(" ", 2)
        self._reply = Reply(int(code), enhanced, text)

    async def deliver(
        self, envelope: Envelope, message: Sequence[Body], attempt: DeliveryAttempt
    ) -> Delivery:
        del attempt
        self.taken.append((envelope, b"".join(cast("Sequence[bytes]", message))))
        return Answered("next", self._reply, ())


async def mailed(
    upstream: Upstream, one: Subscription = EMAIL, *, has_url: bool = True
) -> str | None:
    sns = SnsFace(Signer(), "https://gate.example.com") if has_url else None
    return await MailConfirmer(upstream, "gate.example.com", sns, MovableClock()).send(
        one, TOKEN
    )


async def test_it_says_what_is_to_be_confirmed_how_and_what_to_do_otherwise() -> None:
    upstream = Upstream()
    assert await mailed(upstream) is None
    ((envelope, octets),) = upstream.taken
    assert envelope.reverse_path.mailbox is None
    assert [str(one) for one in envelope.mailboxes] == ["boss@example.com"]
    message = message_from_bytes(octets, EmailMessage, policy=policy.default)
    assert message["To"] == "boss@example.com"
    assert message["From"] == "smtpgate@gate.example.com"
    assert message["Subject"] == "Confirm a subscription"
    assert message["Auto-Submitted"] == "auto-generated"
    text = message.get_content()
    assert str(TOPIC) in text
    assert "to boss@example.com by the mail gateway gate.example.com" in text
    (link,) = [line for line in text.splitlines() if line.startswith("https://")]
    arn = "arn%3Aaws%3Asns%3Aus-east-1%3A888888888888%3Abounces"
    assert link == (
        "https://gate.example.com/?Action=ConfirmSubscription"
        f"&TopicArn={arn}&Token={TOKEN.value}"
    )
    assert "If you did not expect this, do nothing" in text


async def test_without_a_public_url_it_has_the_command() -> None:
    upstream = Upstream()
    assert await mailed(upstream, has_url=False) is None
    command = f"smtpgate subscription confirm {SUBSCRIPTION} {TOKEN.value}"
    assert command.encode() in upstream.taken[0][1]


async def test_a_refusal_of_the_upstream_is_its_problem() -> None:
    problem = await mailed(Upstream("550 5.1.1 No such user"))
    assert problem == "the upstream refused the mail: 550 5.1.1 No such user"
    assert TOKEN.value not in problem


@rows(
    "address",
    [
        "boss@example.com\r\nBcc: all@example.com",
        "boss@example.com\nX: y",
        '"a\r\nb"@example.com',
        "boss@example.com, all@example.com",
        "Boss <boss@example.com>",
        "boss",
        "",
    ],
    ids=repr,
)
def test_an_address_with_more_than_an_address_is_no_endpoint(address: str) -> None:
    with pytest.raises(ValueError, match="an e-mail subscription needs an address"):
        read_endpoint(address, "email", allow_plaintext=False)


@rows("name", ["a\nb", "a b", "a:b", "\u00e4", "", "x" * 257], ids=repr)
def test_a_topic_has_no_name_that_could_end_a_line(name: str) -> None:
    with pytest.raises(ValueError, match="the name of a topic"):
        topic_name(name)


async def test_an_odd_but_right_address_adds_no_header_field() -> None:
    upstream = Upstream()
    odd = replace(EMAIL, endpoint='"Bcc: x"@example.com')
    assert await mailed(upstream, odd) is None
    message = message_from_bytes(upstream.taken[0][1], EmailMessage, policy=policy.default)
    assert "Bcc" not in message
    assert message["To"].addresses[0].addr_spec == '"Bcc: x"@example.com'


class Fixed:
    """An upstream whose deliveries all end so."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    async def deliver(
        self, envelope: Envelope, message: Sequence[Body], attempt: DeliveryAttempt
    ) -> Delivery:
        """The end of a transaction."""
        return self._delivery


@rows(
    "delivery, says",
    [
        (
            Answered("up", Reply(550, "5.1.1", "no such user"), ()),
            "refused the mail: 550 5.1.1",
        ),
        (InDoubt("no answer"), "the upstream did not confirm the mail: no answer"),
        (NotSent("upstream-unreachable", "cannot connect"), "was not sent: cannot connect"),
        (NotSent("upstream-busy"), f"was not sent: {REASONS['upstream-busy'].meaning}"),
    ],
)
async def test_a_mail_of_the_gate_that_is_not_accepted_for_certain_was_not_sent(
    delivery: Delivery, says: str
) -> None:
    mailer = GateMailer(upstream=Fixed(delivery), hostname="gate.example", now=AT)
    with pytest.raises(MailNotSentError, match=re.escape(says)):
        await mailer.send("jane@example.net", "Hello", "Hello Jane.")
