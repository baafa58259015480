"""``smtpgate demo``: messages that a gate accepts and refuses, on loopback.

It is a real gate with TLS, with a sink as its upstream, and the two accounts of Amazon's
announcement of sending authorization: 888888888888 owns ses-example.com, 999999999999 is the
delegate sender. Each step states what it expects and checks it; the transcript is real.
"""

import asyncio
import json
import re
import tempfile
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Final

from smtpgate.core.policy import Caller, Policy, Request, evaluate, parse_policy
from smtpgate.core.policy.lint import lint_policy
from smtpgate.core.policy.lint_regex import corrected
from smtpgate.demo.client import Sent
from smtpgate.demo.transcript import Transcript
from smtpgate.demo.verify import verify
from smtpgate.demo.world import ANNOUNCED, IDENTITY, World, open_world
from smtpgate.signing.private_keys import dns_record, load_private_key

__all__ = ["run_demo"]

_COVERED: Final = "marketing+spring@ses-example.com"
_NOT_COVERED: Final = "sales@ses-example.com"
_OK: Final = 200
_SENDERS: Final = (
    "marketing@ses-example.com",
    "marketing+spring@ses-example.com",
    "marketing+.spring@ses-example.com",
    "sales@ses-example.com",
)
_AS_ANNOUNCED: Final = (False, False, True, False)
_AS_CORRECTED: Final = (True, True, True, False)


def run_demo(write: Callable[[str], object]) -> bool:
    """Run the demonstration and write its transcript; whether every check passed."""
    transcript = Transcript(write)
    transcript.say(
        "smtpgate demo: 888888888888 owns ses-example.com, 999999999999 is its delegate"
    )
    with tempfile.TemporaryDirectory(prefix="smtpgate-demo-") as folder:
        asyncio.run(_run(transcript, Path(folder)))
    if transcript.failures:
        transcript.say(f"\n{len(transcript.failures)} checks failed")
        return False
    transcript.say("\nall checks passed")
    return True


async def _run(transcript: Transcript, folder: Path) -> None:
    _policies(transcript)
    async with open_world(folder) as world:
        before = await world.metrics()
        await _accepted(transcript, world)
        await _not_covered(transcript, world)
        await _no_user_permission(transcript, world)
        await _limit_reached(transcript, world)
        await _counted(transcript, before, await world.metrics())
        await _by_the_api(transcript, world)


def _policies(transcript: Transcript) -> None:
    transcript.chapter("1. The policy of Amazon's announcement, and what its pattern matches")
    transcript.quote(ANNOUNCED)
    transcript.say("   As announced:")
    _try_senders(transcript, ANNOUNCED, _AS_ANNOUNCED)
    policy = parse_policy(ANNOUNCED, kind="identity", name="announced")
    transcript.say("   Findings of `smtpgate policy lint':")
    for finding in lint_policy(policy, source=ANNOUNCED):
        transcript.quote(
            f"{finding.code} {finding.severity}: {finding.path}: {finding.message}"
        )
        if finding.proposal:
            transcript.quote(f"    proposed: {finding.proposal}")
    better = corrected(ANNOUNCED)
    pattern = json.loads(better)["Statement"][0]["Condition"]["StringLike"]["ses:FromAddress"]
    transcript.say(f"   Corrected, ses:FromAddress is {json.dumps(pattern)}:")
    _try_senders(transcript, better, _AS_CORRECTED)


def _try_senders(transcript: Transcript, source: str, expected: tuple[bool, ...]) -> None:
    policy = parse_policy(source, kind="identity", name="marketing")
    for sender, is_expected in zip(_SENDERS, expected, strict=True):
        allowed = _lets_through(policy, sender)
        verb = "allows" if allowed else "refuses"
        transcript.check(f"{verb:7} From: {sender}", holds=allowed is is_expected)


def _lets_through(policy: Policy, sender: str) -> bool:
    caller = Caller("999999999999", "arn:aws:iam::999999999999:root", is_root=True)
    request = Request(caller, "ses:SendRawEmail", IDENTITY, {"ses:fromaddress": (sender,)})
    decision = evaluate(request, identity_policies=[policy], user_policies=[])
    return decision.outcome == "allow"


def _show(transcript: Transcript, sent: Sent) -> None:
    transcript.quote(sent.dialogue)


async def _accepted(transcript: Transcript, world: World) -> None:
    transcript.chapter("2. The delegate sends with the owner's identity by ARN: accepted")
    sent = await world.send("mailer", _COVERED)
    _show(transcript, sent)
    transcript.check("the client gets 250 with the message id", holds=sent.code == 250)
    arrived = await world.sink.wait_for(1)
    content = arrived[0].content
    transcript.say("   The message that the upstream got:")
    transcript.quote(content.decode())
    transcript.check("no X-SES-* field is left", holds=not re.search(rb"(?im)^x-ses-", content))
    signed = re.search(rb"DKIM-Signature:[^:]*d=ses-example\.com;", content) is not None
    transcript.check("DKIM-Signature with d=ses-example.com", holds=signed)
    record = dns_record(load_private_key((world.folder / "private/demo.pem").read_bytes()))
    genuine = verify(content, lambda _name: record.encode())
    transcript.check("dkimpy verifies the signature with the owner's public key", holds=genuine)


async def _not_covered(transcript: Transcript, world: World) -> None:
    transcript.chapter("3. A From that the owner's policy does not allow: refused")
    sent = await world.send("mailer", _NOT_COVERED)
    _show(transcript, sent)
    transcript.check("554 5.7.1 Access denied", holds=_is(sent, 554, "5.7.1 Access denied"))
    transcript.check(
        "the reply names the address that no statement allows", holds=_NOT_COVERED in sent.text
    )
    transcript.say("   Its line in the log:")
    transcript.quote(await _logged(world, sent))
    transcript.check("nothing was sent", holds=len(world.sink.messages) == 1)


async def _no_user_permission(transcript: Transcript, world: World) -> None:
    transcript.chapter("4. A user without permission: refused, although the owner allows it")
    sent = await world.send("intern", _COVERED)
    _show(transcript, sent)
    transcript.check("554 5.7.1 Access denied", holds=_is(sent, 554, "5.7.1 Access denied"))
    transcript.check("nothing was sent", holds=len(world.sink.messages) == 1)


async def _limit_reached(transcript: Transcript, world: World) -> None:
    transcript.chapter("5. The delegate's daily quota of 2 recipients is used up: refused")
    second = await world.send("mailer", "marketing@ses-example.com")
    transcript.check("the second message is accepted", holds=second.code == 250)
    third = await world.send("mailer", _COVERED)
    _show(transcript, third)
    wanted = "4.7.0 Throttling failure: Daily message quota exceeded"
    transcript.check(f"454 {wanted}", holds=_is(third, 454, wanted))
    transcript.check(
        "the reply is to MAIL: no message was read", holds="DATA" not in third.dialogue
    )
    transcript.check("two messages arrived, no more", holds=len(world.sink.messages) == 2)


async def _counted(
    transcript: Transcript, before: dict[str, float], after: dict[str, float]
) -> None:
    transcript.chapter("6. Metrics for Prometheus")
    shown = re.compile(r"smtpgate_(submissions|identity|account)_.*(?<!_created)\{.*\}")
    for name, value in after.items():
        if shown.fullmatch(name) and value != before.get(name):
            transcript.quote(f"{name} {value:g}")
    labels = f'{{account="999999999999",identity="{IDENTITY}",outcome="accepted"}}'
    accepted = after.get(f"smtpgate_identity_messages_total{labels}")
    transcript.check(
        "2 messages accepted for the identity and the delegate", holds=accepted == 2
    )
    used = after.get('smtpgate_account_quota_used_ratio{account="999999999999"}')
    transcript.check("the delegate's quota is used up", holds=used == 1)


async def _by_the_api(transcript: Transcript, world: World) -> None:
    transcript.chapter("7. The API of Amazon SES: PutIdentityPolicy and SendRawEmail")
    await world.raise_quota(10)
    transcript.say("   The quota is raised, and the owner allows the From that step 3 refused.")
    policy = {
        "Version": "2012-10-17",
        "Statement": {
            "Sid": "AuthorizeSales",
            "Effect": "Allow",
            "Principal": {"AWS": "999999999999"},
            "Action": ["ses:SendEmail", "ses:SendRawEmail"],
            "Resource": IDENTITY,
            "Condition": {"StringEquals": {"ses:FromAddress": _NOT_COVERED}},
        },
    }
    put = await world.call(
        "owner",
        {
            "Action": "PutIdentityPolicy",
            "Identity": IDENTITY,
            "PolicyName": "sales",
            "Policy": json.dumps(policy),
        },
    )
    transcript.quote(put.dialogue)
    transcript.check("the owner's policy is saved", holds=put.status == _OK)
    await world.gate.service.catch_up()
    message = f"From: Sales <{_NOT_COVERED}>\nTo: jane@example.net\nSubject: Offer\n\nHello.\n"
    sent = await world.call(
        "mailer",
        {
            "Action": "SendRawEmail",
            "Source": _NOT_COVERED,
            "SourceArn": IDENTITY,
            "FromArn": IDENTITY,
            "ReturnPathArn": IDENTITY,
            "Destinations.member.1": "jane@example.net",
            "RawMessage.Data": b64encode(message.encode()).decode(),
        },
    )
    transcript.quote(sent.dialogue)
    transcript.check("the From that step 3 refused is accepted now", holds=sent.status == _OK)
    arrived = await world.sink.wait_for(3)
    signed = b"d=ses-example.com;" in arrived[2].content
    transcript.check("and arrives with the owner's DKIM-Signature", holds=signed)


def _is(sent: Sent, code: int, text: str) -> bool:
    return sent.code == code and sent.text.startswith(text)


async def _logged(world: World, sent: Sent) -> str:
    """The log line of the message whose id is in the reply."""
    await world.gate.log.flush()
    message_id = sent.text.rpartition("; ")[2].rstrip(")")
    lines = (world.folder / "transactions.log").read_text().splitlines()
    entry: dict[str, object] = next(
        (json.loads(line) for line in lines if message_id in line), {}
    )
    keys = ("id", "outcome", "reason", "account", "user", "from", "identities", "decision")
    return json.dumps({key: entry[key] for key in keys if key in entry}, indent=1)
