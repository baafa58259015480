"""The whole way of a message: what arrives, what is refused and why, what is counted."""

import json
import re
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from smtpgate import authorizing
from smtpgate.core.authorization.reports import authorize_message
from smtpgate.core.authorization.roles import Authorization, AuthorizationRequest
from smtpgate.core.limits import Subject
from smtpgate.core.message.author import Author
from smtpgate.core.message.envelope import Envelope
from smtpgate.core.upstream import Delivery, Octets
from smtpgate.gate.gate import Gate
from smtpgate.ports import DeliveryAttempt
from tests.support.inprocess import ARNS, MESSAGE, Opened, is_signed, login, open_gate, send
from tests.support.ledgers import used_24h
from tests.support.rows import rows
from tests.support.upstream_server import HANG_UP, UpstreamServer, open_upstream
from tests.support.world import DELEGATE, IDENTITY, OWNER

BARE = MESSAGE.removeprefix(ARNS)


def written_by(author: str, *, fields: str = ARNS) -> str:
    return f"{fields}From: {author}\r\nTo: jane@example.net\r\nSubject: x\r\n\r\nHello.\r\n"


async def last_entry(gate: Gate, folder: Path) -> dict[str, Any]:
    await gate.log.flush()
    lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    entry: dict[str, Any] = [line for line in lines if "outcome" in line][-1]
    return entry


async def test_a_delegated_message_arrives_stripped_signed_and_counted(tmp_path: Path) -> None:
    body = b"Gr\xc3\xbc\xc3\x9fe\r\n.a dot\r\n..two dots\r\ntab\t \r\n\r\n\r\n"
    head = (
        f"x-ses-source-arn : {IDENTITY}\r\nX-SES-FROM-ARN:\r\n {IDENTITY}\r\n"
        "From: Marketing <marketing+spring@ses-example.com>\r\nBcc: secret@example.net\r\n"
        f"To: jane@example.net\r\nX-Ses-Source-Arn: nonsense\r\nX-SES-Whatever: x\r\n"
        "Return-Path: <other@example.org>\r\nSubject: =?utf-8?q?Fr=C3=BChling?=\r\n\r\n"
    )
    async with open_gate(tmp_path) as (gate, sink):
        dialog = await login(gate)
        to = ("jane@example.net", "joe@example.net")
        reply = await send(dialog, head.encode() + body, to=to)
        message_id = re.fullmatch(r"250 2\.0\.0 Ok (0100[0-9a-f-]+)", reply)
        assert message_id is not None
        delivered = sink.messages[0]
        assert delivered.recipients == to
        arrived_head, _, arrived_body = delivered.content.partition(b"\r\n\r\n")
        assert arrived_body == body
        for gone in (b"x-ses", b"\nbcc", b"\nreturn-path", b"secret@example.net"):
            assert gone not in arrived_head.lower()
        for added in (b"Received: from ", b"\r\nDate: ", b"\r\nMessage-ID: <0100"):
            assert added in arrived_head
        assert is_signed(delivered.content)
        entry = await last_entry(gate, tmp_path)
        assert entry["id"] == message_id[1]
        assert entry["outcome"] == "accepted"
        assert entry["account"] == DELEGATE
        metrics = gate.metrics.render().decode()
        labels = f'account="{DELEGATE}",identity="{IDENTITY}",outcome="accepted"'
        assert f"smtpgate_identity_messages_total{{{labels}}} 1.0" in metrics
        assert f"smtpgate_identity_recipients_total{{{labels}}} 2.0" in metrics


async def test_a_policy_can_ask_for_the_tags_of_a_message(tmp_path: Path) -> None:
    tagged = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": {
                "Effect": "Allow",
                "Action": "ses:Send*",
                "Resource": "*",
                "Condition": {
                    "ForAllValues:StringEquals": {"smtpgate:MessageTag/campaign": "spring"},
                    "Null": {"smtpgate:MessageTag/campaign": "false"},
                },
            },
        }
    )
    with_policy = ('send = "may-send.json"', 'send = "tagged.json"')
    async with open_gate(tmp_path, replace=with_policy, files={"tagged.json": tagged}) as (
        gate,
        _,
    ):
        dialog = await login(gate)
        for tags, code in (("Campaign=spring", "250"), ("campaign=autumn", "554"), ("", "554")):
            reply = await send(dialog, f"X-SES-MESSAGE-TAGS: {tags}\r\n{MESSAGE}")
            assert reply.startswith(code), tags


async def test_a_senders_next_message_is_decided_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each would cost the time of a decision, and nobody would notice."""
    decided: list[tuple[Author, ...]] = []

    def decide(request: AuthorizationRequest, *more: Any) -> Authorization:  # noqa: ANN401
        decided.append(request.authors)
        return authorize_message(request, *more)

    monkeypatch.setattr(authorizing, "authorize_message", decide)
    async with open_gate(tmp_path) as (gate, _):
        dialog = await login(gate)
        for to in ("jane@example.net", "joe@example.net"):
            assert (await send(dialog, to=(to,))).startswith("250")
        assert len(decided) == 1
        assert (await send(dialog, written_by("marketing+x@ses-example.com"))).startswith("250")
        assert len(decided) == 2


async def test_the_upstream_is_given_the_sending_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the accounts share its connections."""
    given: list[DeliveryAttempt] = []
    async with open_gate(tmp_path) as (gate, sink):
        deliver = gate.upstream.deliver

        async def note(
            envelope: Envelope, message: Sequence[Octets], attempt: DeliveryAttempt
        ) -> Delivery:
            given.append(attempt)
            return await deliver(envelope, message, attempt)

        monkeypatch.setattr(gate.upstream, "deliver", note)
        assert (await send(await login(gate))).startswith("250")
        assert len(sink.messages) == 1
    (attempt,) = given
    assert attempt.account_id == DELEGATE


@rows(
    "note, message, says, reason",
    [
        (
            "a From that the policy does not cover",
            written_by("sales@ses-example.com"),
            "554 5.7.1 Access denied: User `arn:aws:iam::999999999999:user/mailer' is not "
            f"authorized to perform `ses:SendRawEmail' on resource `{IDENTITY}'",
            "implicit-deny",
        ),
        (
            "one of two authors is not covered",
            written_by("marketing@ses-example.com, ceo@ses-example.com"),
            "554 5.7.1 Access denied",
            "implicit-deny",
        ),
        (
            "a From outside the named identity",
            written_by("marketing@example.org"),
            "554 5.7.1 The address 'marketing@example.org' does not align with the given ARN "
            f"'{IDENTITY}'",
            "not-aligned",
        ),
        (
            "a Sender that nobody verified",
            written_by(
                "marketing@ses-example.com", fields=f"{ARNS}Sender: ceo@example.org\r\n"
            ),
            "554 5.7.1 Message rejected: Email address is not verified. The following "
            "identities failed the check in region US-EAST-1: ceo@example.org",
            "not-verified",
        ),
        (
            "an ARN of another region",
            written_by(
                "marketing@ses-example.com",
                fields=ARNS.replace("us-east-1", "eu-west-1"),
            ),
            "554 5.7.1 Message rejected: Email address is not verified. The following "
            "identities failed the check in region EU-WEST-1",
            "wrong-region",
        ),
        (
            "a malformed ARN",
            written_by("marketing@ses-example.com", fields="X-SES-FROM-ARN: nonsense\r\n"),
            "554 5.6.0 Transaction failed: Invalid ARN <nonsense>.",
            "invalid-arn",
        ),
        (
            "a tag that cannot be read",
            written_by(
                "marketing@ses-example.com", fields=f"{ARNS}X-SES-MESSAGE-TAGS: a b=c\r\n"
            ),
            "554 5.6.0 Transaction failed: Invalid tag name <a b>: only alphanumeric ASCII",
            "invalid-tag",
        ),
        (
            "two From fields",
            "From: marketing@ses-example.com\r\n" + MESSAGE,
            "554 5.6.0 Transaction failed: Duplicate header 'From'.",
            "",
        ),
        (
            "no From field",
            "To: jane@example.net\r\n\r\nHello.\r\n",
            "554 5.6.0 Transaction failed: Missing required header 'From'.",
            "bad-author",
        ),
        (
            "an address with a comment's parenthesis in it",
            written_by("marketing@ses-example.com)ceo@ses-example.com"),
            "554 5.6.0 Transaction failed: ",
            "bad-author",
        ),
        (
            "two Subject fields",
            "Subject: y\r\n" + MESSAGE,
            "554 5.6.0 Transaction failed: Duplicate header 'Subject'.",
            "duplicate-field",
        ),
        (
            "a line that is no field",
            "Hello\r\n" + MESSAGE,
            "554 5.6.0 Transaction failed: line 1 of the header block is no field: 'Hello'",
            "malformed-message",
        ),
    ],
)
async def test_a_refusal_says_what_and_why_and_names_the_message(
    usual: Opened, tmp_path: Path, note: str, message: str, says: str, reason: str
) -> None:
    gate, sink = usual
    dialog = await login(gate)
    # Of the other lines without the code; an id may have a 554- in it too.
    reply = " ".join(
        line[10:] if number else f"{line[:3]} {line[4:]}"
        for number, line in enumerate((await send(dialog, message)).split("\n"))
    )
    assert reply.startswith(says), note
    entry = await last_entry(gate, tmp_path)
    assert entry["id"] in reply
    assert entry["reason"] in reply
    assert entry["reason"].startswith(reason)
    assert not sink.messages
    assert (await send(dialog)).startswith("250"), "the session goes on"
    sink.messages.clear()


async def test_a_user_without_permission_is_refused_although_the_owner_allows(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path) as (gate, sink):
        reply = await send(await login(gate, "AKIAINTERN0000000000"))
        assert "user/intern' is not authorized" in reply
        assert not sink.messages


async def test_without_arns_the_grant_is_found(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        assert (await send(await login(gate), BARE)).startswith("250")
        entry = await last_entry(gate, tmp_path)
        assert {used["how"] for used in entry["identities"]} == {"inferred"}


async def test_without_inference_the_refusal_names_the_arn_to_pass(tmp_path: Path) -> None:
    sections = "[authorization]\ninfer_arn = false"
    async with open_gate(tmp_path, sections=sections) as (gate, _):
        dialog = await login(gate)
        reply = await send(dialog, BARE)
        assert "Email address is not verified" in reply
        assert IDENTITY in reply
        assert (await send(dialog)).startswith("250")


async def test_who_was_granted_nothing_does_not_learn_that_the_identity_is_there(
    tmp_path: Path,
) -> None:
    accounts = """
[accounts.777777777777]
name = "Stranger"
[[accounts.777777777777.access_keys]]
id = "AKIASTRANGER00000000"
secret_file = "secret"
"""
    async with open_gate(tmp_path, accounts=accounts) as (gate, _):
        dialog = await login(gate, "AKIASTRANGER00000000")
        reply = await send(dialog, BARE)
        assert "not verified" in reply
        assert OWNER not in reply
        reply = await send(dialog)
        assert "implicit-deny: the identity's policies do not name you" in reply
        assert "marketing'" not in reply, "nor what the owner calls its policies"


async def test_one_arn_field_is_enough(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        message = f"X-SES-SOURCE-ARN: {IDENTITY}\r\n{BARE}"
        assert (await send(await login(gate), message)).startswith("250")
        entry = await last_entry(gate, tmp_path)
        found = {used["role"]: used["how"] for used in entry["identities"]}
        assert found == {"source": "named", "from": "inherited", "return-path": "inherited"}


async def test_the_owner_sends_by_its_own_identity(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, sink):
        dialog = await login(gate, "AKIAOWNERROOT0000000")
        message = written_by("ceo@mail.ses-example.com", fields="")
        reply = await send(dialog, message, sender="ceo@mail.ses-example.com")
        assert reply.startswith("250"), "a domain covers its subdomains"
        assert is_signed(sink.messages[0].content)


async def test_a_deny_on_a_closer_identity_of_the_owner_denies(tmp_path: Path) -> None:
    accounts = """
[accounts.888888888888.identities."marketing@ses-example.com"]
verified = true
policies = { never = "never.json" }
"""
    never = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": {
                "Sid": "Never",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "ses:*",
                "Resource": IDENTITY.replace("/", "/marketing@"),
            },
        }
    )
    files = {"never.json": never}
    async with open_gate(tmp_path, accounts=accounts, files=files) as (gate, _):
        dialog = await login(gate)
        assert "explicit-deny" in await send(dialog)
        message = written_by("marketing+spring@ses-example.com")
        reply = await send(dialog, message, sender="marketing+spring@ses-example.com")
        assert "explicit-deny" in reply, "an address covers its labels"


async def test_recipients_are_charged_to_the_delegate(tmp_path: Path) -> None:
    small = 'name = "Delegate sender"\nmax_24h_send = 1000'
    tight = 'name = "Delegate sender"\nmax_24h_send = 3'
    async with open_gate(tmp_path, replace=(small, tight)) as (gate, sink):
        dialog = await login(gate)
        two = ("a@example.net", "b@example.net")
        assert (await send(dialog, to=two)).startswith("250")
        reply = await send(dialog, to=two)
        assert reply.startswith("454 4.7.0 Throttling failure: Daily message quota exceeded.")
        assert (await send(dialog)).startswith("250"), "one more fits"
        owner = await login(gate, "AKIAOWNERROOT0000000")
        assert (await send(owner)).startswith("250"), (
            "the owner is not charged for the delegate"
        )
        assert len(sink.messages) == 3


async def test_a_faster_sender_is_asked_to_slow_down(tmp_path: Path) -> None:
    small = 'name = "Delegate sender"\nmax_24h_send = 1000\nmax_send_rate_per_s = 1000'
    slow = small.replace("rate_per_s = 1000", "rate_per_s = 0.001")
    async with open_gate(tmp_path, replace=(small, slow)) as (gate, _):
        dialog = await login(gate)
        two = ("a@example.net", "b@example.net")
        assert (await send(dialog, to=two)).startswith("250"), "one with many may go into debt"
        reply = await send(dialog)
        assert reply.startswith("454 4.7.0 Throttling failure: Maximum sending rate exceeded.")


@pytest.mark.parametrize(
    ("key", "text", "reason"),
    [
        ('status = "inactive"', "the access key is not active", "access-key-inactive"),
        (
            "expires = 2020-01-01T00:00:00Z",
            "the access key has expired",
            "access-key-expired",
        ),
        (
            'networks = ["192.0.2.0/24"]',
            "the access key may not be used from this network",
            "network-not-allowed: 127.0.0.1",
        ),
    ],
)
async def test_each_message_is_checked_against_the_access_key_as_it_is_by_then(
    tmp_path: Path, key: str, text: str, reason: str
) -> None:
    async with open_gate(tmp_path) as (gate, sink):
        dialog = await login(gate)
        assert (await send(dialog)).startswith("250")
        for command in ("MAIL FROM:<marketing@ses-example.com>", "RCPT TO:<jane@example.net>"):
            assert (await dialog.say(command)).startswith("250")
        assert (await dialog.say("DATA")).startswith("354")
        accounts = tmp_path / "directory" / "accounts.toml"
        key_id = 'id = "AKIAMAILER0000000000"'
        accounts.write_text(accounts.read_text().replace(key_id, f"{key_id}\n{key}"))
        await gate.reload()
        await dialog.send(f"{MESSAGE}.\r\n".encode())
        reply = await dialog.reply()
        assert reply.startswith(f"554 5.7.1 Access denied: {text} ({reason}; 0100")
        assert len(sink.messages) == 1
        entry = await last_entry(gate, tmp_path)
        assert entry["reason"] == reason.partition(":")[0]


async def test_a_directory_with_an_error_is_not_taken_up(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        (tmp_path / "directory" / "accounts.toml").write_text("[accounts.12]\n")
        await gate.reload()
        assert (await send(await login(gate))).startswith("250")
        await gate.log.flush()
        assert "accounts.toml" in (tmp_path / "log").read_text()


async def test_no_key_means_no_mail_unless_the_setting_says_otherwise(tmp_path: Path) -> None:
    dkim = 'dkim = [{ selector = "test", key_file = "dkim.pem" }]'
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with open_gate(tmp_path / "a", replace=(dkim, "")) as (gate, _):
        reply = await send(await login(gate))
        assert reply.startswith("451 4.7.5 Message could not be signed (no-signing-key")
        # Any sender can cause it again and again: nothing was counted or written before.
        assert await used_24h(gate.ledger, Subject(DELEGATE), gate.clock.now()) == 0
        assert "limits" not in (await last_entry(gate, tmp_path / "a"))["stage_ms"]
    sections = "[signing]\nrequire = false"
    async with open_gate(tmp_path / "b", replace=(dkim, ""), sections=sections) as (gate, sink):
        assert (await send(await login(gate))).startswith("250")
        assert b"DKIM-Signature" not in sink.messages[0].content


@pytest.mark.slow
async def test_a_large_message_arrives_unchanged(tmp_path: Path) -> None:
    body = b"".join(b"line %d of many\r\n" % number for number in range(60_000))
    async with open_gate(tmp_path) as (gate, sink):
        assert (await send(await login(gate), MESSAGE.encode() + body)).startswith("250")
        content = sink.messages[0].content
        assert content.endswith(body)
        assert is_signed(content)


@pytest.mark.parametrize("name", ["From", "Resent-From"])
async def test_a_message_of_very_many_domains_is_refused_before_they_are_looked_up(
    tmp_path: Path, name: str
) -> None:
    tail = ".".join("abcdefghijklmnopqrst")
    values = [f"x@{number}.{tail}.example" for number in range(4)]
    values += [f"x@a.{number}.{tail}.example" for number in range(50)]
    lines = "".join(f"Resent-From: {value}\r\n" for value in values)
    fields = (
        "From: " + ",\r\n ".join(values) + "\r\n"
        if name == "From"
        else lines + "From: a@b.c\r\n"
    )
    async with open_gate(tmp_path) as (gate, _):
        dialog = await login(gate)
        before = gate.directory.cache.misses
        answer = await send(dialog, fields + "\r\nx\r\n")
        assert "more than 100 domains" in answer
        assert "(too-many-authors; 0100" in answer
        assert gate.directory.cache.misses == before


def threads() -> set[threading.Thread]:
    """Those in which work on messages is done."""
    found = threading.enumerate()
    return {thread for thread in found if thread.name.startswith("smtpgate-message")}


@pytest.mark.parametrize(
    ("short", "long"),
    [
        (
            "Cc: " + "(x)" * 200 + "jane@example.net\r\n",
            "Cc: " + "\r\n ".join(["(x)" * 200] * 20) + "jane@example.net\r\n",
        ),
        ("Comments: Frühling\r\n", "Comments: " + "\r\n ".join(["ü" * 200] * 4) + "\r\n"),
        ("Cc: a@xn--tda.example\r\n", "Cc: " + "a@xn--tda.example,\r\n " * 51 + "a@b.c\r\n"),
        (
            "Resent-From: =?utf-8?q?x?= <marketing@ses-example.com>\r\n",
            "Resent-From: " + "=?utf-8?q?x?=\r\n " * 51 + "<marketing@ses-example.com>\r\n",
        ),
    ],
    ids=["octets", "beyond-ascii", "internationalised-labels", "encoded-words"],
)
async def test_a_header_is_read_in_a_thread_when_it_takes_long(
    tmp_path: Path, short: str, long: str
) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog, before = await login(gate), threads()
        for fields, is_in_thread in ((short, False), (long, True)):
            assert (await send(dialog, fields + MESSAGE)).startswith("250")
            assert bool(threads() - before) is is_in_thread


async def test_many_patterns_on_many_recipients_are_compared_in_a_thread(
    tmp_path: Path,
) -> None:
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": DELEGATE},
        "Action": "ses:*",
        "Resource": IDENTITY,
        "Condition": {
            "ForAllValues:StringLike": {"ses:Recipients": ["*@example.net", *["*?q*"] * 450]}
        },
    }
    text = json.dumps({"Version": "2012-10-17", "Statement": statement})
    to = tuple(f"jane{number}@example.net" for number in range(5))
    async with open_gate(tmp_path, files={"marketing.json": text}) as (gate, _):
        dialog, before = await login(gate), threads()
        for recipients, is_in_thread in ((to[:1], False), (to, True)):
            assert (await send(dialog, to=recipients)).startswith("250")
            assert bool(threads() - before) is is_in_thread
        refused = await send(dialog, to=(*to, "jane@example.com"))
        assert refused.startswith("554 5.7.1 Access denied")


@pytest.fixture
async def relaying(tmp_path: Path) -> AsyncIterator[tuple[Gate, UpstreamServer]]:
    """A gate, and an upstream whose answers a test chooses."""
    async with (
        open_upstream() as upstream,
        open_gate(tmp_path, port=upstream.port) as (gate, _),
    ):
        yield gate, upstream


@rows(
    "answers, says, reason",
    [
        ({"MAIL": "550 5.7.1 not you"}, "550 5.7.1 not you (upstream-reply", "upstream-reply"),
        ({"MESSAGE": "452 4.3.1 full"}, "452 4.3.1 full (upstream-reply", "upstream-reply"),
        ({"MESSAGE": HANG_UP}, "451 4.4.2 Upstream mail server gave no answer", "in-doubt"),
        ({"MAIL": HANG_UP}, "451 4.4.1 Upstream mail server is not", "upstream-unreachable"),
        # the last one: the recipient is on the list of the suppressed ones after it
        ({"RCPT": "550 no such user"}, "550 5.0.0 no such user", "upstream-reply"),
    ],
)
async def test_the_upstream_s_verdict_is_passed_on_and_what_was_not_sent_is_not_counted(
    relaying: tuple[Gate, UpstreamServer],
    tmp_path: Path,
    answers: dict[str, str],
    says: str,
    reason: str,
) -> None:
    gate, upstream = relaying
    before = await used_24h(gate.ledger, Subject(DELEGATE), gate.clock.now())
    upstream.answers.update(answers)
    dialog = await login(gate)
    assert (await send(dialog)).startswith(says)
    entry = await last_entry(gate, tmp_path)
    assert entry["reason"] == reason
    used = await used_24h(gate.ledger, Subject(DELEGATE), gate.clock.now())
    assert used == before + (1 if reason == "in-doubt" else 0)
    upstream.answers.clear()
    assert (await send(dialog)).startswith("250"), "the session goes on"


async def test_an_upstream_that_is_not_there_means_try_again(tmp_path: Path) -> None:
    async with open_upstream() as upstream:
        port = upstream.port
    async with open_gate(tmp_path, port=port) as (gate, _):
        reply = await send(await login(gate))
        assert reply.startswith("451 4.4.1 Upstream mail server is not reachable, try again")
        assert "127.0.0.1" not in reply.split("(")[0]


async def test_what_the_upstream_lacks_is_not_offered_and_not_sent(tmp_path: Path) -> None:
    async with (
        open_upstream() as upstream,
        open_gate(tmp_path, port=upstream.port) as (gate, _),
    ):
        dialog = await login(gate)
        assert "8BITMIME" in await dialog.say("EHLO client.example")
        assert (await send(dialog)).startswith("250")
        offered = await dialog.say("EHLO client.example")
        assert "8BITMIME" not in offered
        assert "SMTPUTF8" not in offered
        reply = await send(dialog, MESSAGE + "Grüße\r\n")
        assert reply.startswith("554 5.6.3 Message has 8-bit octets, and the upstream lacks")


async def test_limits_and_policies_are_those_of_now_and_not_of_the_login(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog = await login(gate)
        assert (await send(dialog)).startswith("250")
        accounts = tmp_path / "directory" / "accounts.toml"
        old = 'name = "Delegate sender"\nmax_24h_send = 1000'
        accounts.write_text(accounts.read_text().replace(old, old.replace("1000", "2")))
        await gate.reload()
        assert (await send(dialog)).startswith("250")
        ratio = 'smtpgate_account_quota_used_ratio{account="999999999999"} 1.0'
        assert ratio in gate.metrics.render().decode()
        assert "max-24h-send" in await send(dialog)


@pytest.mark.parametrize(
    ("parameters", "subject", "wanted"),
    [
        ("", "Grüße", "MAIL FROM:<marketing@ses-example.com> BODY=8BITMIME"),
        (" SMTPUTF8", "Grüße", "MAIL FROM:<marketing@ses-example.com> BODY=8BITMIME SMTPUTF8"),
        (" SMTPUTF8", "x", "MAIL FROM:<marketing@ses-example.com>"),
    ],
    ids=["old habit", "declared and needed", "declared for nothing"],
)
async def test_smtputf8_is_asked_of_the_upstream_when_declared_and_needed(
    tmp_path: Path, parameters: str, subject: str, wanted: str
) -> None:
    async with (
        open_upstream("8BITMIME", "SMTPUTF8") as upstream,
        open_gate(tmp_path, port=upstream.port) as (gate, _),
    ):
        message = MESSAGE.replace("Subject: Spring", f"Subject: {subject}")
        assert (await send(await login(gate), message, parameters=parameters)).startswith("250")
        (visit,) = upstream.visits
        assert [command for command in visit.commands if command.startswith("MAIL")] == [wanted]


@pytest.fixture
async def of_organization(tmp_path: Path) -> AsyncIterator[Gate]:
    """A gate whose delegate belongs to an organization, and its user to a team."""
    replace = ('name = "Delegate sender"', 'organization = "o-exampleorg0"')
    async with open_gate(tmp_path, replace=replace) as (gate, _):
        accounts = tmp_path / "directory" / "accounts.toml"
        user = f"[accounts.{DELEGATE}.users.mailer]"
        text = accounts.read_text()
        accounts.write_text(text.replace(user, f'{user}\ntags = {{ Team = "news" }}'))
        yield gate


@rows(
    "operator, key, wanted, passes",
    [
        ("StringEquals", "aws:PrincipalOrgID", "o-exampleorg0", True),
        ("StringEquals", "aws:PrincipalOrgID", "o-anotherorg0", False),
        ("StringEquals", "aws:PrincipalTag/Team", "news", True),
        ("StringEquals", "aws:PrincipalTag/team", "sales", False),
        ("StringEquals", "aws:username", "mailer", True),
        ("IpAddress", "aws:SourceIp", "127.0.0.0/8", True),
        ("IpAddress", "aws:SourceIp", "192.0.2.0/24", False),
        ("Bool", "aws:SecureTransport", "false", True),
        ("StringEquals", "aws:ResourceAccount", OWNER, True),
    ],
)
async def test_policies_may_ask_what_the_gate_knows(
    of_organization: Gate, tmp_path: Path, operator: str, key: str, wanted: str, passes: bool
) -> None:
    policy = {
        "Version": "2012-10-17",
        "Statement": {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "ses:SendRawEmail",
            "Resource": IDENTITY,
            "Condition": {operator: {key: wanted}},
        },
    }
    (tmp_path / "directory" / "marketing.json").write_text(json.dumps(policy))
    await of_organization.reload()
    reply = await send(await login(of_organization))
    assert reply.startswith("250" if passes else "554 5.7.1"), reply


async def test_a_sender_that_the_owner_names_sees_what_did_not_match_also_without_an_arn(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog = await login(gate)
        message = written_by("ceo@ses-example.com", fields="")
        reply = await send(dialog, message, sender="ceo@ses-example.com")
        assert f"on resource `{IDENTITY}'" in reply
        assert "wants StringLike ses:FromAddress" in reply.replace("\r", "")
        assert "saw `ceo@ses-example.com'" in reply


@pytest.mark.parametrize("broken", ["message_store.finish", "metrics.publish", "log.publish"])
async def test_what_the_upstream_took_is_250_whatever_breaks_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    async with open_gate(tmp_path) as (gate, sink):
        dialog = await login(gate)
        part, _, method = broken.partition(".")

        def fail(*_: object) -> None:
            raise ArithmeticError(f"{broken} is broken")

        monkeypatch.setattr(getattr(gate, part), method, fail)
        assert (await send(dialog)).startswith("250 2.0.0 Ok")
        assert len(sink.messages) == 1
        await gate.log.flush()
        assert f"{broken} is broken" in (tmp_path / "log").read_text()
        monkeypatch.undo()
