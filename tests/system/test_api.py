"""The API of a gate, called by botocore: AWS's own client."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from smtpgate.admin import topics
from smtpgate.admin.refs import TopicRef
from smtpgate.admin.session import operator_session
from smtpgate.demo.sink import Sink
from smtpgate.gate.gate import Gate
from tests.support.aws import aws_client, called
from tests.support.inprocess import is_signed, open_gate
from tests.support.world import DELEGATE, IDENTITY, OWNER, may_send

OWNER_ROOT, DELEGATE_ROOT = "AKIAOWNERROOT0000000", "AKIADELEGATEROOT0000"
KEYS = {OWNER: OWNER_ROOT, DELEGATE: DELEGATE_ROOT}
ROOT = f"""
[[accounts.{DELEGATE}.access_keys]]
id = "{DELEGATE_ROOT}"
secret_file = "secret"
"""
MAILER, INTERN = "AKIAMAILER0000000000", "AKIAINTERN0000000000"
API = """
[api.ses]
address = "127.0.0.1"
port = 0
tls = "none"
allow_plaintext = true
"""
POLICY = {
    "Version": "2012-10-17",
    "Statement": {
        "Sid": "AuthorizeMarketer",
        "Effect": "Allow",
        "Principal": {"AWS": DELEGATE},
        "Action": ["ses:SendEmail", "ses:SendRawEmail"],
        "Resource": IDENTITY,
    },
}


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[Gate, Sink, int]]:
    """A gate, its sink, and the port of its API."""
    async with open_gate(folder, accounts=ROOT, sections=API) as (gate, sink):
        yield gate, sink, gate.service.apis["ses"].port


async def refused(call: Callable[..., Any], **parameters: object) -> tuple[str, int, str]:
    """The code, the status and the text of a refusal."""
    with pytest.raises(ClientError) as raised:
        await called(call, **parameters)
    answer = raised.value.response
    assert answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"]
    status = answer["ResponseMetadata"]["HTTPStatusCode"]
    return answer["Error"]["Code"], status, answer["Error"]["Message"]


async def test_the_announcement_s_calls(tmp_path: Path) -> None:
    async with serving(tmp_path) as (gate, sink, port):
        owner, delegate = (aws_client("ses", port, key) for key in (OWNER_ROOT, MAILER))
        given = {"Identity": IDENTITY, "PolicyName": "marketing", "Policy": json.dumps(POLICY)}
        await called(owner.put_identity_policy, **given)
        await gate.service.catch_up()
        sent = await called(
            delegate.send_raw_email,
            Source="marketing@ses-example.com",
            SourceArn=IDENTITY,
            FromArn=IDENTITY,
            ReturnPathArn=IDENTITY,
            Destinations=["jane@example.net"],
            RawMessage={
                "Data": b"From: marketing@ses-example.com\nSubject: Spring\n\nHello.\n"
            },
        )
        (message,) = sink.messages
        assert is_signed(message.content)
        assert message.recipients == ("jane@example.net",)
        assert sent["MessageId"].encode() in message.content
        assert b"x-ses-" not in message.content.lower()
        assert (await refused(delegate.get_send_quota))[:2] == ("AccessDenied", 403)
        quota = await called(aws_client("ses", port, DELEGATE_ROOT).get_send_quota)
        assert quota == {"Max24HourSend": 1000, "MaxSendRate": 1000, "SentLast24Hours": 1}


async def test_a_client_that_tries_its_settings_learns_whether_it_may_send(
    tmp_path: Path,
) -> None:
    # As nodemailer's verify() does, with an address that nobody has verified.
    trial = {
        "FromEmailAddress": "invalid@invalid",
        "Destination": {"ToAddresses": ["invalid@invalid"]},
        "Content": {"Raw": {"Data": b"From: <invalid@invalid>\r\nTo: <invalid@invalid>\r\n"}},
    }
    everywhere = may_send("ses:Send*")
    other = f'"arn:aws:ses:us-east-1:{DELEGATE}:identity/a.example"'
    only_here = everywhere.replace('"*"', other)
    for policy, code in (
        (everywhere, "MessageRejected"),
        (only_here, "AccessDeniedException"),
        (may_send("ses:SendEmail"), "AccessDeniedException"),
    ):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        files = {"may-send.json": policy}
        async with open_gate(folder, accounts=ROOT, sections=API, files=files) as (gate, _):
            port = gate.service.apis["ses"].port
            mailer, intern, root = (
                aws_client("sesv2", port, one) for one in (MAILER, INTERN, DELEGATE_ROOT)
            )
            assert (await refused(mailer.send_email, **trial))[0] == code
            assert (await refused(intern.send_email, **trial))[0] == "AccessDeniedException"
            assert (await refused(root.send_email, **trial))[0] == "MessageRejected"


async def test_a_message_in_parts_is_made_into_mime(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, sink, port):
        owner = aws_client("ses", port, OWNER_ROOT)
        await called(
            owner.send_email,
            Source="Größe <marketing@ses-example.com>",
            Destination={
                "ToAddresses": ["Jane <jane@example.net>"],
                "BccAddresses": ["joe@example.org"],
            },
            Message={
                "Subject": {"Data": "Grüße"},
                "Body": {"Text": {"Data": "Hello."}, "Html": {"Data": "<p>Hello.</p>"}},
            },
        )
        (message,) = sink.messages
        assert message.recipients == ("jane@example.net", "joe@example.org")
        assert b"joe@example.org" not in message.content
        assert is_signed(message.content)
        newer = aws_client("sesv2", port, OWNER_ROOT)
        await called(
            newer.send_email,
            FromEmailAddress="marketing@ses-example.com",
            Destination={"ToAddresses": ["jane@example.net"]},
            Content={"Raw": {"Data": b"From: marketing@ses-example.com\r\n\r\nHello.\r\n"}},
        )
        assert len(sink.messages) == 2


@pytest.mark.slow
async def test_policies_by_both_versions(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, _, port):
        older, newer = (aws_client(one, port, OWNER_ROOT) for one in ("ses", "sesv2"))
        of = {"EmailIdentity": "ses-example.com", "PolicyName": "p_1"}
        await called(newer.create_email_identity_policy, **of, Policy=json.dumps(POLICY))
        again = await refused(
            newer.create_email_identity_policy, **of, Policy=json.dumps(POLICY)
        )
        assert again == ("AlreadyExistsException", 400, "Policy <p_1> already exists.")
        names = await called(older.list_identity_policies, Identity="ses-example.com")
        assert names == {"PolicyNames": ["marketing", "p_1"]}
        found = await called(
            older.get_identity_policies, Identity=IDENTITY, PolicyNames=["p_1", "other"]
        )
        assert json.loads(found["Policies"]["p_1"]) == POLICY
        assert list(found["Policies"]) == ["p_1"]
        await called(newer.delete_email_identity_policy, **of)
        code, status, _ = await refused(newer.delete_email_identity_policy, **of)
        assert (code, status) == ("NotFoundException", 404)
        gone = {"Identity": "ses-example.com", "PolicyName": "p_1"}
        assert await called(older.delete_identity_policy, **gone) == {}


async def test_the_caller_learns_its_account(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, _, port):
        arn = f"arn:aws:iam::{DELEGATE}:user/mailer"
        found = await called(aws_client("sts", port, MAILER).get_caller_identity)
        assert (found["Account"], found["Arn"]) == (DELEGATE, arn)
        code, status, _ = await refused(aws_client("iam", port, MAILER).get_user)
        assert (code, status) == ("AccessDenied", 403)
        root = await called(aws_client("iam", port, DELEGATE_ROOT).get_user)
        assert root["User"]["Arn"] == f"arn:aws:iam::{DELEGATE}:root"


async def test_identities_are_registered_listed_and_deleted(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, sink, port):
        older, newer = (aws_client(one, port, DELEGATE_ROOT) for one in ("ses", "sesv2"))
        token = await called(older.verify_domain_identity, Domain="Shop.example.org")
        assert await called(older.verify_domain_identity, Domain="shop.example.org") == token
        await called(older.verify_email_identity, EmailAddress="jane@example.net")
        (mail,) = sink.messages
        assert mail.recipients == ("jane@example.net",)
        names = ["shop.example.org", "jane@example.net", "other.example.org"]
        found = await called(older.get_identity_verification_attributes, Identities=names)
        assert found["VerificationAttributes"] == {
            "shop.example.org": {"VerificationStatus": "Pending", **token},
            "jane@example.net": {"VerificationStatus": "Pending"},
        }
        first = await called(newer.list_email_identities, PageSize=1)
        (one,) = first["EmailIdentities"]
        assert one == {
            "IdentityType": "EMAIL_ADDRESS",
            "IdentityName": "jane@example.net",
            "SendingEnabled": False,
            "VerificationStatus": "PENDING",
        }
        second = await called(
            newer.list_email_identities, PageSize=1, NextToken=first["NextToken"]
        )
        assert [one["IdentityName"] for one in second["EmailIdentities"]] == [
            "shop.example.org"
        ]
        assert "NextToken" not in second
        domains = await called(older.list_identities, IdentityType="Domain")
        assert domains["Identities"] == ["shop.example.org"]
        bad = await refused(newer.list_email_identities, NextToken="%%")
        assert bad[0] == "InvalidNextTokenException"
        await called(newer.delete_email_identity, EmailIdentity="shop.example.org")
        gone = await refused(newer.delete_email_identity, EmailIdentity="shop.example.org")
        assert gone[:2] == ("NotFoundException", 404)
        assert await called(older.delete_identity, Identity="shop.example.org") == {}


@pytest.mark.slow
async def test_notifications_of_owner_and_delegate(tmp_path: Path) -> None:
    async with serving(tmp_path) as (gate, _, port):
        owner, delegate = (aws_client("ses", port, key) for key in (OWNER_ROOT, DELEGATE_ROOT))
        for account, client in ((OWNER, owner), (DELEGATE, delegate)):
            topic = f"arn:aws:sns:us-east-1:{account}:bounces"
            await called(aws_client("sns", port, KEYS[account]).create_topic, Name="bounces")
            await called(
                client.set_identity_notification_topic,
                Identity=IDENTITY,
                NotificationType="Bounce",
                SnsTopic=topic,
            )
            found = await called(
                client.get_identity_notification_attributes, Identities=[IDENTITY]
            )
            settings = found["NotificationAttributes"][IDENTITY]
            assert settings["BounceTopic"] == topic
            assert settings["ForwardingEnabled"] is (account == OWNER)
        sns, other = (
            aws_client("sns", port, OWNER_ROOT),
            f"arn:aws:sns:us-east-1:{OWNER}:bounces",
        )
        assert (await called(sns.list_tags_for_resource, ResourceArn=other))["Tags"] == []
        missing = await refused(sns.list_tags_for_resource, ResourceArn=f"{other}-of-nobody")
        assert missing == ("ResourceNotFound", 404, "Resource does not exist")
        theirs = f"arn:aws:sns:us-east-1:{DELEGATE}:bounces"
        setting = {"Identity": IDENTITY, "NotificationType": "Bounce", "SnsTopic": theirs}
        code, _, text = await refused(owner.set_identity_notification_topic, **setting)
        assert (code, "is not one of this account" in text) == ("InvalidParameterValue", True)
        session = operator_session(
            gate.config, gate.store, gate.clock, name="tester", origin="test"
        )
        await topics.allow(session, TopicRef(DELEGATE, "bounces"), OWNER)
        await called(owner.set_identity_notification_topic, **setting)
        found = await called(owner.get_identity_notification_attributes, Identities=[IDENTITY])
        assert found["NotificationAttributes"][IDENTITY]["BounceTopic"] == theirs
        # Headers stay as they were set while a topic comes and goes.
        bounces = {"Identity": IDENTITY, "NotificationType": "Bounce"}
        await called(
            owner.set_identity_headers_in_notifications_enabled, **bounces, Enabled=True
        )
        await called(owner.set_identity_notification_topic, **bounces)
        found = await called(owner.get_identity_notification_attributes, Identities=[IDENTITY])
        settings = found["NotificationAttributes"][IDENTITY]
        assert "BounceTopic" not in settings
        assert settings["HeadersInBounceNotificationsEnabled"]
        code, _, text = await refused(
            owner.set_identity_notification_topic, Identity=IDENTITY, NotificationType="Open"
        )
        assert code == "InvalidParameterValue"
        assert text.startswith("Invalid notification type: Open.")


@pytest.mark.slow
async def test_configuration_sets_by_both_versions(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, _, port):
        older, newer = (aws_client(one, port, DELEGATE_ROOT) for one in ("ses", "sesv2"))
        topic = f"arn:aws:sns:us-east-1:{DELEGATE}:events"
        await called(aws_client("sns", port, DELEGATE_ROOT).create_topic, Name="events")
        await called(older.create_configuration_set, ConfigurationSet={"Name": "spring"})
        again = await refused(newer.create_configuration_set, ConfigurationSetName="spring")
        text = "Configuration set <spring> already exists."
        assert again == ("AlreadyExistsException", 400, text)
        await called(
            newer.create_configuration_set_event_destination,
            ConfigurationSetName="spring",
            EventDestinationName="all",
            EventDestination={
                "Enabled": True,
                "MatchingEventTypes": ["SEND", "BOUNCE"],
                "SnsDestination": {"TopicArn": topic},
            },
        )
        found = await called(
            older.describe_configuration_set,
            ConfigurationSetName="spring",
            ConfigurationSetAttributeNames=["eventDestinations", "reputationOptions"],
        )
        assert found["EventDestinations"] == [
            {
                "Name": "all",
                "Enabled": True,
                "MatchingEventTypes": ["send", "bounce"],
                "SNSDestination": {"TopicARN": topic},
            }
        ]
        assert found["ReputationOptions"] == {
            "SendingEnabled": True,
            "ReputationMetricsEnabled": False,
        }
        await must_have_reputation_options(older, newer)
        missing = await refused(older.delete_configuration_set, ConfigurationSetName="autumn")
        assert missing[0] == "ConfigurationSetDoesNotExist"
        for its, its_topic, code in (
            ("topics", topic, "ConfigurationSetDoesNotExist"),
            ("spring", f"{topic}-of-nobody", "InvalidSNSDestination"),
        ):
            missing = await refused(
                older.create_configuration_set_event_destination,
                ConfigurationSetName=its,
                EventDestination={
                    "Name": "second",
                    "MatchingEventTypes": ["send"],
                    "SNSDestination": {"TopicARN": its_topic},
                },
            )
            assert missing[0] == code, missing
        for options in ({"TlsPolicy": "REQUIRE"}, {"SendingPoolName": "pool"}):
            given = {"ConfigurationSetName": "autumn", "DeliveryOptions": options}
            refusal = await refused(newer.create_configuration_set, **given)
            assert refusal[0] == "BadRequestException"
        named = await called(newer.list_configuration_sets)
        assert named["ConfigurationSets"] == ["spring"]
        await called(newer.delete_configuration_set, ConfigurationSetName="spring")


async def must_have_reputation_options(older: Any, newer: Any) -> None:  # noqa: ANN401 - clients
    """Metrics are turned on and off; a set that is resumed makes a fresh start."""
    spring = {"ConfigurationSetName": "spring"}
    await called(
        older.update_configuration_set_reputation_metrics_enabled, **spring, Enabled=True
    )
    for is_enabled in (False, True):
        await called(
            older.update_configuration_set_sending_enabled, **spring, Enabled=is_enabled
        )
    options = (await called(newer.get_configuration_set, **spring))["ReputationOptions"]
    assert options["ReputationMetricsEnabled"]
    assert options["LastFreshStart"].tzinfo is not None
    await called(
        newer.put_configuration_set_reputation_options, **spring, ReputationMetricsEnabled=False
    )
    options = (await called(newer.get_configuration_set, **spring))["ReputationOptions"]
    assert not options["ReputationMetricsEnabled"]
    missing = await refused(
        older.update_configuration_set_reputation_metrics_enabled,
        ConfigurationSetName="autumn",
        Enabled=True,
    )
    assert missing[0] == "ConfigurationSetDoesNotExist"


async def test_refusals_have_the_codes_of_aws(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, _, port):
        put = {"Identity": IDENTITY, "PolicyName": "p", "Policy": json.dumps(POLICY)}
        of_delegate = aws_client("ses", port, MAILER)
        assert (await refused(of_delegate.put_identity_policy, **put))[:2] == (
            "AccessDenied",
            403,
        )
        owner = aws_client("ses", port, OWNER_ROOT)
        bad = {**put, "Policy": "{}"}
        assert (await refused(owner.put_identity_policy, **bad))[:2] == ("InvalidPolicy", 400)
        for key, secret, code in (
            ("AKIANOSUCHKEY0000000", "x", "InvalidClientTokenId"),
            (OWNER_ROOT, "another", "SignatureDoesNotMatch"),
        ):
            stranger = aws_client("ses", port, key, secret=secret)
            assert (await refused(stranger.get_send_quota))[:2] == (code, 403)
        newer = aws_client("sesv2", port, OWNER_ROOT, secret="another")
        assert (await refused(newer.get_account))[:2] == ("InvalidSignatureException", 403)
        raw = {"Source": "a@ses-example.org", "Destinations": ["jane@example.net"]}
        raw["RawMessage"] = {"Data": b"From: a@ses-example.org\r\n\r\nHello.\r\n"}  # type: ignore[assignment]
        code, status, text = await refused(of_delegate.send_raw_email, **raw)
        assert (code, status) == ("MessageRejected", 400)
        assert text.startswith("Email address is not verified.")
