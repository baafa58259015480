"""Events on their way out of a gate: to webhooks of owner and delegate, and by mail."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from smtpgate.admin import configuration_sets, notifications, topics
from smtpgate.admin.refs import ConfigurationSetRef, IdentityRef, TopicRef
from smtpgate.admin.session import Session, operator_session
from smtpgate.core.notification.settings import SubscriptionForm
from smtpgate.gate.confirmer import open_confirmer
from smtpgate.gate.gate import Gate
from tests.support.dialog import Dialog
from tests.support.inprocess import login, open_gate
from tests.support.notifications import must_fit
from tests.support.upstream_server import UpstreamServer, open_upstream
from tests.support.waiting import until
from tests.support.world import DELEGATE, DOMAIN_NAME, IDENTITY, OWNER
from tests.system.test_recipients import BAD, GOOD, as_named, try_all

pytestmark = pytest.mark.slow

_SECTIONS: Final = """
[notifications]
base_url = "https://gate.example"
allow_plaintext = true
allow_private = true
"""
OWNERS: Final = TopicRef(OWNER, "bounces")
THEIRS: Final = TopicRef(DELEGATE, "ours")
SET: Final = ConfigurationSetRef(DELEGATE, "spring")
OWN_IDENTITY: Final = IdentityRef(OWNER, DOMAIN_NAME)


class Receiver:
    """Takes every call, and keeps the paths and bodies."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
        body = json.loads(await reader.readexactly(length))
        self.calls.append((head.split()[1], body))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    def bodies(self, path: str) -> list[Any]:
        """The bodies of the calls of a path."""
        return [body for called, body in self.calls if called == path]


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield receiver
    finally:
        server.close()


@asynccontextmanager
async def publishing(folder: Path) -> AsyncIterator[tuple[Gate, UpstreamServer, Receiver]]:
    async with (
        receiving() as receiver,
        open_upstream() as upstream,
        open_gate(folder, port=upstream.port, sections=_SECTIONS) as (gate, _),
    ):
        upstream.answers["RCPT"] = as_named
        yield gate, upstream, receiver


def session_of(gate: Gate) -> Session:
    return operator_session(gate.config, gate.store, gate.clock, name="tester", origin="test")


async def subscribe(
    gate: Gate, topic: TopicRef, form: SubscriptionForm, endpoint: str, *, trust: bool = True
) -> str:
    """The ARN of the subscription of a topic, which is made if it is not there."""
    session = session_of(gate)
    async with open_confirmer(gate.config, gate.clock) as confirmer:
        made = await topics.subscribe(
            session, topic, form, endpoint, confirmer, is_trusted=trust
        )
    assert made.problem is None
    return made.details.arn


async def make_topics(gate: Gate) -> None:
    for ref in (OWNERS, THEIRS):
        await topics.create(session_of(gate), ref)


async def test_owner_and_delegate_are_notified_each_by_their_own_settings(
    tmp_path: Path,
) -> None:
    async with publishing(tmp_path) as (gate, upstream, receiver):
        await make_topics(gate)
        await subscribe(gate, OWNERS, "sns", f"{receiver.url}/owner")
        await subscribe(gate, THEIRS, "raw", f"{receiver.url}/delegate")
        for account, name in ((OWNER, "bounces"), (DELEGATE, "ours")):
            await notifications.update(
                session_of(gate), OWN_IDENTITY, account, topics={"Bounce": name}
            )
        await gate.directory.catch_up()
        dialog = await login(gate)
        *_, verdict = await try_all(dialog, GOOD, BAD)
        assert verdict.startswith("250")
        await until(lambda: len(receiver.calls) == 2)
        (envelope,) = receiver.bodies("/owner")
        must_fit("sns", json.dumps(envelope))
        (raw,) = receiver.bodies("/delegate")
        for shown in (json.loads(envelope["Message"]), raw):
            must_fit("notification", json.dumps(shown))
            assert shown["bounce"]["bouncedRecipients"][0]["emailAddress"] == BAD
            assert shown["mail"]["sendingAccountId"] == DELEGATE
            assert shown["mail"]["sourceArn"] == IDENTITY
        # Forwarding is on: the return path has its report as well.
        await until(lambda: len(upstream.messages) == 2)


@pytest.mark.slow
async def test_an_owner_is_notified_at_a_delegate_s_topic_while_that_is_open_to_it(
    tmp_path: Path,
) -> None:
    async with publishing(tmp_path) as (gate, _, receiver):
        await make_topics(gate)
        await subscribe(gate, THEIRS, "raw", f"{receiver.url}/delegate")
        session = session_of(gate)
        await topics.allow(session, THEIRS, OWNER)
        arn = f"arn:aws:sns:us-east-1:{DELEGATE}:{THEIRS.name}"
        await notifications.update(session, OWN_IDENTITY, OWNER, topics={"Bounce": arn})
        await gate.directory.catch_up()
        dialog = await login(gate)
        await try_all(dialog, GOOD, BAD)
        await until(lambda: len(receiver.calls) == 1)
        (shown,) = receiver.bodies("/delegate")
        assert shown["bounce"]["bouncedRecipients"][0]["emailAddress"] == BAD
        await topics.disallow(session, THEIRS, OWNER)
        await notifications.update(session, OWN_IDENTITY, DELEGATE, topics={"Bounce": "ours"})
        await gate.directory.catch_up()
        await try_all(dialog, GOOD, BAD)
        await until(lambda: len(receiver.calls) == 2)  # by the delegate's own setting alone


async def say(dialog: Dialog, *fields: str) -> str:
    assert (await dialog.say("MAIL FROM:<marketing@ses-example.com>")).startswith("250")
    assert (await dialog.say(f"RCPT TO:<{GOOD}>")).startswith("250")
    assert (await dialog.say("DATA")).startswith("354")
    lines = [*fields, "From: marketing@ses-example.com", "Subject: x", "", "Hello.", ".", ""]
    await dialog.send("\r\n".join(lines).encode())
    return await dialog.reply()


async def test_a_configuration_set_publishes_that_a_message_is_sent(tmp_path: Path) -> None:
    async with publishing(tmp_path) as (gate, _, receiver):
        await make_topics(gate)
        await subscribe(gate, THEIRS, "raw", f"{receiver.url}/events")
        await configuration_sets.create(session_of(gate), SET)
        await configuration_sets.add_destination(
            session_of(gate), SET, "all", ["SEND"], THEIRS.name
        )
        await gate.directory.catch_up()
        dialog = await login(gate)
        named = "X-SES-CONFIGURATION-SET: spring"
        assert (await say(dialog, named, "X-SES-MESSAGE-TAGS: campaign=a")).startswith("250")
        await until(lambda: len(receiver.calls) == 1)
        (event,) = receiver.bodies("/events")
        must_fit("event", json.dumps(event))
        assert event["eventType"] == "Send"
        assert event["mail"]["tags"]["campaign"] == ["a"]
        assert event["mail"]["tags"]["ses:configuration-set"] == ["spring"]
        assert (await say(dialog, "X-SES-CONFIGURATION-SET: unknown")).startswith("250")
        assert (await say(dialog)).startswith("250")
        await configuration_sets.set_sending(session_of(gate), SET, is_sending=False)
        await gate.directory.catch_up()
        refused = await say(dialog, named)
        assert "Sending is paused for configuration set <spring>." in refused
        assert "configuration-set-paused" in refused
        assert len(receiver.calls) == 1


def ask(gate: Gate, target: str) -> tuple[int, str]:
    assert gate.http is not None
    connection = HTTPConnection("127.0.0.1", gate.http.port, timeout=10)
    try:
        connection.request("GET", target)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


async def test_a_receiver_confirms_and_ends_its_subscription_by_links(tmp_path: Path) -> None:
    async with publishing(tmp_path) as (gate, _, receiver):
        await make_topics(gate)
        arn = await subscribe(gate, OWNERS, "sns", f"{receiver.url}/owner", trust=False)
        (envelope,) = receiver.bodies("/owner")
        must_fit("sns", json.dumps(envelope))
        assert envelope["Type"] == "SubscriptionConfirmation"
        link = urlsplit(envelope["SubscribeURL"])
        assert link.netloc == "gate.example"
        status, text = await asyncio.to_thread(ask, gate, f"/?{link.query}")
        assert (status, arn in text) == (200, True)
        (shown,) = await topics.subscriptions(session_of(gate))
        assert shown.state == "confirmed"
        status, text = await asyncio.to_thread(ask, gate, f"/?{link.query}")
        assert (status, "InvalidParameter" in text) == (400, True)
        certificate = urlsplit(envelope["SigningCertURL"]).path
        status, text = await asyncio.to_thread(ask, gate, certificate)
        assert (status, "BEGIN CERTIFICATE" in text) == (200, True)
        end = f"/?Action=Unsubscribe&SubscriptionArn={arn}"
        assert (await asyncio.to_thread(ask, gate, end))[0] == 200
        (shown,) = await topics.subscriptions(session_of(gate))
        assert shown.state == "pending"
        assert (await asyncio.to_thread(ask, gate, end))[0] == 400
        await until(lambda: len(receiver.calls) == 2)
        ended = receiver.bodies("/owner")[-1]
        must_fit("sns", json.dumps(ended))
        assert ended["Type"] == "UnsubscribeConfirmation"
        link = urlsplit(ended["SubscribeURL"])
        assert (await asyncio.to_thread(ask, gate, f"/?{link.query}"))[0] == 200
        (shown,) = await topics.subscriptions(session_of(gate))
        assert shown.state == "confirmed"


@pytest.mark.parametrize("target", ["/", "/?Action=Other", "/other.pem"])
async def test_other_targets_are_not_found(tmp_path: Path, target: str) -> None:
    async with publishing(tmp_path) as (gate, _, _receiver):
        assert (await asyncio.to_thread(ask, gate, target))[0] == 404


async def test_an_address_of_a_topic_gets_a_mail_with_the_json(tmp_path: Path) -> None:
    async with publishing(tmp_path) as (gate, upstream, _):
        await make_topics(gate)
        await subscribe(gate, OWNERS, "email", "boss@example.com")
        await notifications.update(
            session_of(gate),
            OWN_IDENTITY,
            topics={"Bounce": OWNERS.name, "Complaint": OWNERS.name},
            is_forwarding=False,
        )
        await gate.directory.catch_up()
        dialog = await login(gate)
        await try_all(dialog, GOOD, BAD)
        await until(lambda: len(upstream.messages) == 2)
        assert b"To: <boss@example.com>" in upstream.messages[1]


@pytest.mark.slow
async def test_the_default_set_of_an_identity_publishes_its_owner_s_mail(
    tmp_path: Path,
) -> None:
    async with publishing(tmp_path) as (gate, _, receiver):
        await make_topics(gate)
        await subscribe(gate, OWNERS, "raw", f"{receiver.url}/events")
        own = ConfigurationSetRef(OWNER, "own")
        await configuration_sets.create(session_of(gate), own)
        await configuration_sets.add_destination(
            session_of(gate), own, "all", ["SEND"], OWNERS.name
        )
        await notifications.set_configuration_set(session_of(gate), OWN_IDENTITY, own.name)
        await gate.directory.catch_up()
        delegate = await login(gate)
        assert (await say(delegate)).startswith("250")
        owner = await login(gate, "AKIAOWNERROOT0000000")
        assert (await say(owner)).startswith("250")
        await until(lambda: len(receiver.calls) == 1)
        (event,) = receiver.bodies("/events")
        assert event["mail"]["sendingAccountId"] == OWNER
        assert event["mail"]["tags"]["ses:configuration-set"] == ["own"]
