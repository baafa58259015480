"""The calls that Terraform's AWS provider makes for each resource of SES: create, read, delete.

The provider itself cannot be had here; the order of its calls and what it takes from their
answers is from its source (internal/service/ses and sesv2).
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.aws import aws_client, called
from tests.support.inprocess import open_gate
from tests.support.world import DELEGATE, IDENTITY, OWNER
from tests.system.test_return_path import FEEDBACK

API = '[api.a]\naddress = "127.0.0.1"\nport = 0\ntls = "none"\nallow_plaintext = true\n'
ROOT = "AKIAOWNERROOT0000000"
DOMAIN = "ses-example.com"
TOPIC = f"arn:aws:sns:us-east-1:{OWNER}:events"
SET_ARN = f"arn:aws:ses:us-east-1:{OWNER}:configuration-set/spring"
POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": {
            "Effect": "Allow",
            "Principal": {"AWS": DELEGATE},
            "Action": "ses:SendEmail",
            "Resource": IDENTITY,
        },
    }
)


class Clients:
    """The clients of a provider."""

    def __init__(self, port: int) -> None:
        self.ses, self.sesv2, self.sns, self.sts = (
            aws_client(name, port, ROOT) for name in ("ses", "sesv2", "sns", "sts")
        )


@asynccontextmanager
async def provider(folder: Path) -> AsyncIterator[Clients]:
    async with open_gate(folder, sections=API + FEEDBACK) as (gate, _):
        clients = Clients(gate.service.apis["a"].port)
        assert (await called(clients.sts.get_caller_identity))["Account"] == OWNER
        yield clients


async def code_of(call: Callable[..., Any], **parameters: object) -> str:
    """The code of the error of a call."""
    with pytest.raises(ClientError) as refused:
        await called(call, **parameters)
    code: str = refused.value.response["Error"]["Code"]
    return code


@pytest.mark.slow
async def test_identities_of_version_1(tmp_path: Path) -> None:
    async with provider(tmp_path) as clients:
        ses = clients.ses
        # aws_ses_domain_identity, aws_ses_domain_identity_verification
        made = await called(ses.verify_domain_identity, Domain="new.example.org")
        read = {"Identities": ["new.example.org"]}
        found = await called(ses.get_identity_verification_attributes, **read)
        attributes = found["VerificationAttributes"]["new.example.org"]
        assert attributes["VerificationToken"] == made["VerificationToken"]
        assert attributes["VerificationStatus"] == "Pending"
        # aws_ses_domain_dkim
        tokens = await called(ses.verify_domain_dkim, Domain="new.example.org")
        found = await called(ses.get_identity_dkim_attributes, **read)
        assert found["DkimAttributes"]["new.example.org"]["DkimTokens"] == tokens["DkimTokens"]
        assert len(tokens["DkimTokens"]) == 3
        await called(ses.delete_identity, Identity="new.example.org")
        found = await called(ses.get_identity_verification_attributes, **read)
        assert found["VerificationAttributes"] == {}
        # aws_ses_domain_mail_from
        await called(
            ses.set_identity_mail_from_domain,
            Identity=DOMAIN,
            MailFromDomain=f"bounce.{DOMAIN}",
            BehaviorOnMXFailure="UseDefaultValue",
        )
        found = await called(ses.get_identity_mail_from_domain_attributes, Identities=[DOMAIN])
        assert found["MailFromDomainAttributes"][DOMAIN] == {
            "MailFromDomain": f"bounce.{DOMAIN}",
            "MailFromDomainStatus": "Pending",
            "BehaviorOnMXFailure": "UseDefaultValue",
        }
        await called(ses.set_identity_mail_from_domain, Identity=DOMAIN)
        found = await called(ses.get_identity_mail_from_domain_attributes, Identities=[DOMAIN])
        alone = {"BehaviorOnMXFailure": "UseDefaultValue"}  # as SES answers without a domain
        assert found["MailFromDomainAttributes"] == {DOMAIN: alone}
        # aws_ses_identity_policy: an unknown name is left out, and is no error
        of = {"Identity": IDENTITY, "PolicyName": "p"}
        await called(ses.put_identity_policy, **of, Policy=POLICY)
        named: dict[str, object] = {"Identity": IDENTITY, "PolicyNames": ["p"]}
        found = await called(ses.get_identity_policies, **named)
        assert json.loads(found["Policies"]["p"]) == json.loads(POLICY)
        await called(ses.delete_identity_policy, **of)
        assert (await called(ses.get_identity_policies, **named))["Policies"] == {}


@pytest.mark.slow
async def test_notifications_and_configuration_sets_of_version_1(tmp_path: Path) -> None:
    async with provider(tmp_path) as clients:
        ses = clients.ses
        await called(clients.sns.create_topic, Name="events")
        assert (await called(clients.sns.list_tags_for_resource, ResourceArn=TOPIC))[
            "Tags"
        ] == []
        # aws_ses_identity_notification_topic: headers are set after the topic, always
        of = {"Identity": DOMAIN, "NotificationType": "Bounce"}
        await called(ses.set_identity_notification_topic, **of, SnsTopic=TOPIC)
        await called(ses.set_identity_headers_in_notifications_enabled, **of, Enabled=False)
        found = await called(ses.get_identity_notification_attributes, Identities=[DOMAIN])
        assert found["NotificationAttributes"][DOMAIN]["BounceTopic"] == TOPIC
        await called(ses.set_identity_notification_topic, **of)
        # aws_ses_configuration_set, aws_ses_event_destination
        await called(ses.create_configuration_set, ConfigurationSet={"Name": "spring"})
        named = {"ConfigurationSetName": "spring"}
        await called(ses.update_configuration_set_sending_enabled, **named, Enabled=True)
        await called(
            ses.update_configuration_set_reputation_metrics_enabled, **named, Enabled=True
        )
        await called(
            ses.put_configuration_set_delivery_options,
            **named,
            DeliveryOptions={"TlsPolicy": "Optional"},
        )
        await called(
            ses.create_configuration_set_event_destination,
            **named,
            EventDestination={
                "Name": "all",
                "Enabled": True,
                "MatchingEventTypes": ["bounce", "send", "open"],
                "SNSDestination": {"TopicARN": TOPIC},
            },
        )
        wanted = [
            "eventDestinations",
            "deliveryOptions",
            "reputationOptions",
            "trackingOptions",
        ]
        found = await called(
            ses.describe_configuration_set, **named, ConfigurationSetAttributeNames=wanted
        )
        (destination,) = found["EventDestinations"]
        assert sorted(destination["MatchingEventTypes"]) == ["bounce", "open", "send"]
        assert found["ReputationOptions"]["ReputationMetricsEnabled"]
        await called(
            ses.delete_configuration_set_event_destination, **named, EventDestinationName="all"
        )
        await called(ses.delete_configuration_set, **named)
        gone = await code_of(ses.describe_configuration_set, **named)
        assert gone == "ConfigurationSetDoesNotExist"
        # aws_ses_template
        template = {"TemplateName": "t", "SubjectPart": "Hello {{name}}", "TextPart": "x"}
        await called(ses.create_template, Template=template)
        assert (await called(ses.get_template, TemplateName="t"))["Template"] == template
        await called(ses.delete_template, TemplateName="t")
        assert await code_of(ses.get_template, TemplateName="t") == "TemplateDoesNotExist"


@pytest.mark.slow
async def test_resources_of_version_2(tmp_path: Path) -> None:
    async with provider(tmp_path) as clients:
        ses = clients.sesv2
        # aws_sesv2_configuration_set and its event destination; tags are read each time
        named = {"ConfigurationSetName": "spring"}
        await called(
            ses.create_configuration_set,
            **named,
            ReputationOptions={"ReputationMetricsEnabled": False},
            SendingOptions={"SendingEnabled": True},
            SuppressionOptions={"SuppressedReasons": ["BOUNCE"]},
            Tags=[{"Key": "team", "Value": "news"}],
        )
        found = await called(ses.get_configuration_set, **named)
        assert found["SuppressionOptions"]["SuppressedReasons"] == ["BOUNCE"]
        assert not found["ReputationOptions"]["ReputationMetricsEnabled"]
        tags = await called(ses.list_tags_for_resource, ResourceArn=SET_ARN)
        assert tags["Tags"] == [{"Key": "team", "Value": "news"}]
        # aws_sesv2_email_identity and its attributes
        named = {"EmailIdentity": "new.example.org"}
        made = await called(ses.create_email_identity, **named, ConfigurationSetName="spring")
        assert (made["IdentityType"], made["VerifiedForSendingStatus"]) == ("DOMAIN", False)
        found = await called(ses.get_email_identity, **named)
        assert found["ConfigurationSetName"] == "spring"
        assert len(found["DkimAttributes"]["Tokens"]) == 3
        assert found["VerificationStatus"] == "PENDING"
        alone = {"BehaviorOnMxFailure": "USE_DEFAULT_VALUE"}
        assert found["MailFromAttributes"] == alone
        await called(
            ses.put_email_identity_feedback_attributes, **named, EmailForwardingEnabled=True
        )
        await called(
            ses.put_email_identity_mail_from_attributes,
            **named,
            MailFromDomain="bounce.new.example.org",
            BehaviorOnMxFailure="REJECT_MESSAGE",
        )
        found = await called(ses.get_email_identity, **named)
        assert found["FeedbackForwardingStatus"]
        assert found["MailFromAttributes"]["BehaviorOnMxFailure"] == "REJECT_MESSAGE"
        # aws_sesv2_email_identity_policy: 404 at the end is the end
        of = {**named, "PolicyName": "p"}
        policy = POLICY.replace(DOMAIN, "new.example.org")
        await called(ses.create_email_identity_policy, **of, Policy=policy)
        assert list((await called(ses.get_email_identity_policies, **named))["Policies"]) == [
            "p"
        ]
        await called(ses.delete_email_identity_policy, **of)
        assert await code_of(ses.delete_email_identity_policy, **of) == "NotFoundException"
        await called(ses.put_email_identity_configuration_set_attributes, **named)
        await called(ses.delete_email_identity, **named)
        assert await code_of(ses.get_email_identity, **named) == "NotFoundException"
        # aws_sesv2_account_suppression_attributes
        await called(ses.put_account_suppression_attributes, SuppressedReasons=["COMPLAINT"])
        account = await called(ses.get_account)
        assert account["SuppressionAttributes"]["SuppressedReasons"] == ["COMPLAINT"]
