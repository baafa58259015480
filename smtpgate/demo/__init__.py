"""``smtpgate demo``: messages that a gate accepts and refuses, on loopback.

It is a real gate with TLS, with a sink as its upstream, and the two accounts of Amazon's
announcement of sending authorization: 888888888888 owns ses-example.com, 999999999999 is the
delegate sender. Each step states what it expects and checks it; the transcript is real.
"""

import asyncio
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from smtpgate.core.policy import Caller, Outcome, Policy, Request, evaluate, parse_policy
from smtpgate.core.policy.lint import lint_policy
from smtpgate.core.policy.lint_regex import corrected
from smtpgate.demo.client import Sent
from smtpgate.demo.story import Story
from smtpgate.demo.verify import verify
from smtpgate.demo.world import ANNOUNCED, IDENTITY, World, open_world
from smtpgate.signing.private_keys import dns_record, load_private_key

__all__ = ["run_demo"]

_COVERED: Final = "marketing+spring@ses-example.com"
_NOT_COVERED: Final = "sales@ses-example.com"
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
    story = Story(write)
    story.say("smtpgate demo: 888888888888 owns ses-example.com, 999999999999 is its delegate")
    with tempfile.TemporaryDirectory(prefix="smtpgate-demo-") as folder:
        asyncio.run(_run(story, Path(folder)))
    if story.failures:
        story.say(f"\n{len(story.failures)} checks failed")
        return False
    story.say("\nall checks passed")
    return True


async def _run(story: Story, folder: Path) -> None:
    _policies(story)
    async with open_world(folder) as world:
        before = await world.metrics()
        await _accepted(story, world)
        await _not_covered(story, world)
        await _no_user_permission(story, world)
        await _limit_reached(story, world)
        await _counted(story, before, await world.metrics())


def _policies(story: Story) -> None:
    story.chapter("1. The policy of the announcement, and what its pattern really matches")
    story.quote(ANNOUNCED)
    story.say("   As it stands:")
    _try_senders(story, ANNOUNCED, _AS_ANNOUNCED)
    policy = parse_policy(ANNOUNCED, kind="identity", name="announced")
    story.say("   Findings of `smtpgate policy lint':")
    for finding in lint_policy(policy, source=ANNOUNCED):
        story.quote(f"{finding.code} {finding.severity}: {finding.path}: {finding.message}")
        if finding.proposal:
            story.quote(f"    proposed: {finding.proposal}")
    better = corrected(ANNOUNCED)
    pattern = json.loads(better)["Statement"][0]["Condition"]["StringLike"]["ses:FromAddress"]
    story.say(f"   Corrected, ses:FromAddress is {json.dumps(pattern)}:")
    _try_senders(story, better, _AS_CORRECTED)


def _try_senders(story: Story, source: str, expected: tuple[bool, ...]) -> None:
    policy = parse_policy(source, kind="identity", name="marketing")
    for sender, is_expected in zip(_SENDERS, expected, strict=True):
        allowed = _lets_through(policy, sender)
        verb = "lets through" if allowed else "refuses"
        story.check(f"{verb:12} From: {sender}", holds=allowed is is_expected)


def _lets_through(policy: Policy, sender: str) -> bool:
    caller = Caller("999999999999", "arn:aws:iam::999999999999:root", is_root=True)
    request = Request(caller, "ses:SendRawEmail", IDENTITY, {"ses:fromaddress": (sender,)})
    decision = evaluate(request, identity_policies=[policy], user_policies=[])
    return decision.outcome is Outcome.ALLOW


def _show(story: Story, sent: Sent) -> None:
    story.quote(sent.dialogue)


async def _accepted(story: Story, world: World) -> None:
    story.chapter("2. The delegate sends with the owner's identity by ARN: accepted")
    sent = await world.send("mailer", _COVERED)
    _show(story, sent)
    story.check("the client gets 250 with the message id", holds=sent.code == 250)
    arrived = await world.sink.wait_for(1)
    content = arrived[0].content
    story.say("   What arrived upstream:")
    story.quote(content.decode())
    story.check("no X-SES-* field is left", holds=not re.search(rb"(?im)^x-ses-", content))
    signed = re.search(rb"DKIM-Signature:[^:]*d=ses-example\.com;", content) is not None
    story.check("DKIM-Signature with d=ses-example.com", holds=signed)
    record = dns_record(load_private_key((world.folder / "private/demo.pem").read_bytes()))
    genuine = verify(content, lambda _name: record.encode())
    story.check("dkimpy verifies the signature with the owner's public key", holds=genuine)


async def _not_covered(story: Story, world: World) -> None:
    story.chapter("3. A From that the owner's policy does not allow: refused")
    sent = await world.send("mailer", _NOT_COVERED)
    _show(story, sent)
    story.check("554 5.7.1 Access denied", holds=_is(sent, 554, "5.7.1 Access denied"))
    story.check(
        "the reply names the address that no statement allows", holds=_NOT_COVERED in sent.text
    )
    story.say("   Its line in the log:")
    story.quote(await _logged(world, sent))
    story.check("nothing was sent", holds=len(world.sink.messages) == 1)


async def _no_user_permission(story: Story, world: World) -> None:
    story.chapter("4. A user without permission: refused, although the owner allows it")
    sent = await world.send("intern", _COVERED)
    _show(story, sent)
    story.check("554 5.7.1 Access denied", holds=_is(sent, 554, "5.7.1 Access denied"))
    story.check("nothing was sent", holds=len(world.sink.messages) == 1)


async def _limit_reached(story: Story, world: World) -> None:
    story.chapter("5. The delegate's daily quota of 2 recipients is used up: refused")
    second = await world.send("mailer", "marketing@ses-example.com")
    story.check("the second message is accepted", holds=second.code == 250)
    third = await world.send("mailer", _COVERED)
    _show(story, third)
    wanted = "4.7.0 Throttling failure: Daily message quota exceeded"
    story.check(f"454 {wanted}", holds=_is(third, 454, wanted))
    story.check("the reply is to MAIL: no message was read", holds="DATA" not in third.dialogue)
    story.check("two messages arrived, no more", holds=len(world.sink.messages) == 2)


async def _counted(story: Story, before: dict[str, float], after: dict[str, float]) -> None:
    story.chapter("6. Metrics for Prometheus")
    shown = re.compile(r"smtpgate_(submissions|identity|account)_.*(?<!_created)\{.*\}")
    for name, value in after.items():
        if shown.fullmatch(name) and value != before.get(name):
            story.quote(f"{name} {value:g}")
    labels = f'{{account="999999999999",identity="{IDENTITY}",outcome="accepted"}}'
    accepted = after.get(f"smtpgate_identity_messages_total{labels}")
    story.check("2 messages accepted for the identity and the delegate", holds=accepted == 2)
    used = after.get('smtpgate_account_quota_used_ratio{account="999999999999"}')
    story.check("the delegate's quota is used up", holds=used == 1)


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
