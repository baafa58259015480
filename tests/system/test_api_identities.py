"""Identities, their DKIM and their tags by the API of a gate, called by botocore."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from smtpgate.admin.easy_dkim import hosted
from smtpgate.admin.session import operator_session
from smtpgate.demo.sink import Sink
from smtpgate.gate.gate import Gate
from tests.support.aws import aws_client, called
from tests.support.clock import MovableClock
from tests.support.dns_records import Records, checks_by
from tests.support.inprocess import open_gate
from tests.support.verification import worker_of
from tests.support.world import DELEGATE, IDENTITY, OWNER
from tests.system.test_api import API, DELEGATE_ROOT, INTERN, ROOT, refused

pytestmark = pytest.mark.slow

SHOP: Final = "shop.example.org"
SHOP_ARN: Final = f"arn:aws:ses:us-east-1:{DELEGATE}:identity/{SHOP}"
SIGNING: Final = """
[signing]
min_rsa_bits = 1024
hosted_zone = "dkim.gate.example.com"
require = false
"""


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[Gate, Sink, Any, Any]]:
    """A gate, its sink, and the delegate's clients of both versions of the API."""
    async with open_gate(folder, accounts=ROOT, sections=API + SIGNING) as (gate, sink):
        port = gate.service.apis["ses"].port
        older, newer = (aws_client(one, port, DELEGATE_ROOT) for one in ("ses", "sesv2"))
        yield gate, sink, older, newer


async def look_for(gate: Gate, records: Records) -> None:
    """Have the DNS asked for what is due in an hour."""
    clock = MovableClock(gate.clock.now() + timedelta(hours=1))
    await worker_of(gate.store, checks_by(records), clock).round()


def small_key() -> str:
    """A key as clients of SES bring it: RSA-1024, PKCS #8."""
    key = rsa.generate_private_key(65537, 1024).private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return base64.b64encode(key).decode()


async def test_easy_dkim_by_both_versions(tmp_path: Path) -> None:
    async with serving(tmp_path) as (gate, sink, older, newer):
        tokens = (await called(older.verify_domain_dkim, Domain=SHOP))["DkimTokens"]
        assert (await called(older.verify_domain_dkim, Domain=SHOP))["DkimTokens"] == tokens
        names = [SHOP, "other.example.org"]
        found = await called(older.get_identity_dkim_attributes, Identities=names)
        assert found["DkimAttributes"] == {
            SHOP: {
                "DkimEnabled": True,
                "DkimVerificationStatus": "Pending",
                "DkimTokens": tokens,
            }
        }
        operator = operator_session(
            gate.config, gate.store, gate.clock, name="tester", origin="test"
        )
        zone = [record async for page in hosted(operator) for record in page]
        assert {one.name for one in zone} == {f"{one}.dkim.gate.example.com" for one in tokens}
        # A resolver follows the CNAMEs from the domain to the zone.
        await look_for(
            gate,
            Records(
                {
                    f"{one.name.partition('.')[0]}._domainkey.{SHOP}": [one.value.encode()]
                    for one in zone
                }
            ),
        )
        whole = await called(newer.get_email_identity, EmailIdentity=SHOP)
        assert whole["VerificationStatus"] == "SUCCESS"
        assert whole["VerifiedForSendingStatus"]
        assert "ErrorType" not in whole["VerificationInfo"]
        await gate.service.catch_up()
        mail: dict[str, object] = {
            "Destinations": ["jane@example.net"],
            "RawMessage": {"Data": f"From: a@{SHOP}\n\nHello.\n".encode()},
        }
        await called(older.send_raw_email, **mail)
        (message,) = sink.messages
        signature = message.content.partition(b"From:")[0]
        assert any(f"s={token};".encode() in signature for token in tokens)
        made_at = whole["DkimAttributes"].pop("LastKeyGenerationTimestamp")
        assert (gate.clock.now() - made_at).total_seconds() < 60
        assert whole["DkimAttributes"] == {
            "SigningEnabled": True,
            "Status": "SUCCESS",
            "Tokens": tokens,
            "SigningHostedZone": "dkim.gate.example.com",
            "SigningAttributesOrigin": "AWS_SES",
            "CurrentSigningKeyLength": "RSA_2048_BIT",
            "NextSigningKeyLength": "RSA_2048_BIT",
        }
        await called(older.set_identity_dkim_enabled, Identity=SHOP, DkimEnabled=False)
        whole = await called(newer.get_email_identity, EmailIdentity=SHOP)
        assert not whole["DkimAttributes"]["SigningEnabled"]
        await gate.service.catch_up()
        await called(older.send_raw_email, **mail)
        assert b"DKIM-Signature" not in sink.messages[1].content
        unknown = {"Identity": "other.example.org", "DkimEnabled": True}
        assert await refused(older.set_identity_dkim_enabled, **unknown) == (
            "InvalidParameterValue",
            400,
            "Domain other.example.org is not verified for DKIM signing.",
        )


@pytest.mark.slow
async def test_a_key_that_is_brought(tmp_path: Path) -> None:
    async with serving(tmp_path) as (gate, _, _, newer):
        key = small_key()
        signing = {"DomainSigningSelector": "usesend", "DomainSigningPrivateKey": key}
        await called(newer.create_configuration_set, ConfigurationSetName="spring")
        made = await called(
            newer.create_email_identity,
            EmailIdentity=SHOP,
            DkimSigningAttributes=signing,
            ConfigurationSetName="spring",
            Tags=[{"Key": "team", "Value": "news"}],
        )
        assert made == {
            "IdentityType": "DOMAIN",
            "VerifiedForSendingStatus": False,
            "DkimAttributes": {
                "SigningEnabled": True,
                "Status": "PENDING",
                "Tokens": ["usesend"],
                "SigningAttributesOrigin": "EXTERNAL",
            },
        }
        again = await refused(newer.create_email_identity, EmailIdentity=SHOP)
        assert again == (
            "AlreadyExistsException",
            400,
            f"Email identity {SHOP} already exist.",
        )
        await look_for(gate, Records())
        whole = await called(newer.get_email_identity, EmailIdentity=SHOP)
        assert (whole["ConfigurationSetName"], whole["VerificationStatus"]) == (
            "spring",
            "PENDING",
        )
        assert whole["Tags"] == [{"Key": "team", "Value": "news"}]
        assert whole["VerificationInfo"]["ErrorType"] == "TYPE_NOT_FOUND"
        assert whole["FeedbackForwardingStatus"] is True
        put = {"EmailIdentity": SHOP, "SigningAttributesOrigin": "AWS_SES"}
        easy = await called(newer.put_email_identity_dkim_signing_attributes, **put)
        assert (easy["DkimStatus"], len(easy["DkimTokens"])) == ("PENDING", 3)
        for wrong, words in (
            ({"EmailIdentity": "jane@example.net"}, "The EmailIdentity value must be a valid"),
            ({"SigningAttributesOrigin": "EXTERNAL"}, "must be given together"),
            ({"SigningAttributesOrigin": "AWS_SES_EU_WEST_1"}, "not supported"),
            ({"SigningAttributes": signing}, "cannot be asked for together"),
        ):
            code, status, text = await refused(
                newer.put_email_identity_dkim_signing_attributes, **put | wrong
            )
            assert (code, status) == ("BadRequestException", 400)
            assert words in text
        bad = {"DomainSigningSelector": "a", "DomainSigningPrivateKey": f"{key[:200]}!"}
        _, _, text = await refused(
            newer.put_email_identity_dkim_signing_attributes,
            EmailIdentity=SHOP,
            SigningAttributesOrigin="EXTERNAL",
            SigningAttributes=bad,
        )
        assert "domainSigningPrivateKey" in text
        assert key[:20] not in text
        await called(newer.put_email_identity_configuration_set_attributes, EmailIdentity=SHOP)
        whole = await called(newer.get_email_identity, EmailIdentity=SHOP)
        assert "ConfigurationSetName" not in whole
        missing = await refused(newer.get_email_identity, EmailIdentity="other.example.org")
        assert missing[:2] == ("NotFoundException", 404)


async def test_who_may_only_create_identities_gets_their_tokens(tmp_path: Path) -> None:
    rights = {"Effect": "Allow", "Action": "ses:CreateEmailIdentity", "Resource": "*"}
    intern = f"[accounts.{DELEGATE}.users.intern]\n"
    files = {"create.json": json.dumps({"Statement": rights})}
    given = (intern, f'{intern}policies = {{ create = "create.json" }}\n')
    async with open_gate(tmp_path, replace=given, files=files, sections=API) as (gate, sink):
        client = aws_client("sesv2", gate.service.apis["ses"].port, INTERN)
        made = await called(client.create_email_identity, EmailIdentity=SHOP)
        assert len(made["DkimAttributes"]["Tokens"]) == 3
        address = f"jane@{SHOP}"
        made = await called(client.create_email_identity, EmailIdentity=address)
        assert made["IdentityType"] == "EMAIL_ADDRESS"
        assert [one.recipients for one in sink.messages] == [(address,)]
        read = await refused(client.get_email_identity, EmailIdentity=SHOP)
        assert read[0] == "AccessDeniedException"


async def test_tags_of_identities_and_configuration_sets(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, _, older, newer):
        await called(older.verify_domain_identity, Domain=SHOP)
        await called(
            newer.create_configuration_set,
            ConfigurationSetName="spring",
            Tags=[{"Key": "cost", "Value": "42"}],
        )
        of_set = f"arn:aws:ses:us-east-1:{DELEGATE}:configuration-set/spring"
        for arn in (SHOP_ARN, of_set):
            pairs = [{"Key": "team", "Value": "news"}, {"Key": "a/b", "Value": ""}]
            await called(newer.tag_resource, ResourceArn=arn, Tags=pairs)
            await called(newer.untag_resource, ResourceArn=arn, TagKeys=["a/b", "cost"])
            found = await called(newer.list_tags_for_resource, ResourceArn=arn)
            assert found == {"Tags": [{"Key": "team", "Value": "news"}]}
        whole = await called(newer.get_configuration_set, ConfigurationSetName="spring")
        assert whole["Tags"] == [{"Key": "team", "Value": "news"}]
        for arn, code in (
            (IDENTITY, "AccessDeniedException"),
            (f"arn:aws:ses:us-east-1:{DELEGATE}:identity/other.example", "NotFoundException"),
            (f"arn:aws:ses:eu-west-1:{DELEGATE}:identity/{SHOP}", "BadRequestException"),
            (f"arn:aws:ses:us-east-1:{OWNER}:configuration-set/x", "AccessDeniedException"),
            ("spring", "BadRequestException"),
        ):
            assert (await refused(newer.list_tags_for_resource, ResourceArn=arn))[0] == code
