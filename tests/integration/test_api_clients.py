"""Clients of Amazon SES, unmodified, that call a gate's API over TLS."""

import email
import email.policy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab, eventually, free_port
from tests.support.gate import ACCOUNTS, LOGIN, Gate, GatePlan, is_signed, start_gate
from tests.support.recorder import Recorded, Recorder, recorder
from tests.support.world import DELEGATE, DOMAIN_NAME, IDENTITY, OWNER, REGION, SECRET

OWNER_KEY: Final = "AKIAOWNERROOT0000000"
ROOT_KEY: Final = f"""
[[accounts.{OWNER}.access_keys]]
id = "{OWNER_KEY}"
secret_file = "keys/{LOGIN.username}.secret"
"""
FROM: Final = f"news@{DOMAIN_NAME}"
POLICY: Final = {
    "Version": "2012-10-17",
    "Statement": {
        "Effect": "Allow",
        "Principal": {"AWS": DELEGATE},
        "Action": ["ses:SendEmail", "ses:SendRawEmail"],
        "Resource": IDENTITY,
    },
}


@dataclass(frozen=True, slots=True)
class Api:
    """A gate with a port for the API, and its recording upstream."""

    lab: Lab
    authority: Authority
    upstream: Recorder
    gate: Gate

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"https://{LOOPBACK}:{self.gate.plan.api_port}"

    def environment(self, key_id: str = OWNER_KEY) -> dict[str, str]:
        """The settings of clients of AWS: the endpoint, the key, and whom to trust."""
        ca_file = str(self.authority.ca_file)
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": key_id,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_CA_BUNDLE": ca_file,
            "NODE_EXTRA_CA_CERTS": ca_file,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        }

    def boto3(self, service: str, key_id: str = OWNER_KEY) -> Any:  # noqa: ANN401 - no types
        """A client of boto3, with arguments in place of the environment."""
        return boto3.Session(key_id, SECRET, region_name=REGION).client(
            service,
            endpoint_url=self.url,
            verify=str(self.authority.ca_file),
            config=Config(retries={"total_max_attempts": 1}),
        )

    def sent(self, count: int = 1) -> list[Recorded]:
        """The messages that a client has sent; so many, and signed for the domain."""
        found = self.upstream.wait_for(count)
        assert len(found) == count
        assert all(is_signed(one.message) for one in found)
        assert not any(b"x-ses-" in one.header.lower() for one in found)
        return found


@pytest.fixture(scope="module")
def running(shared_lab: Lab) -> Api:
    authority, upstream = Authority(shared_lab), recorder(shared_lab)
    plan = GatePlan(upstream.port, accounts=ACCOUNTS + ROOT_KEY, api_port=free_port())
    return Api(shared_lab, authority, upstream, start_gate(shared_lab, authority, plan))


@pytest.fixture
def api(running: Api) -> Api:
    """The gate, with nothing sent yet."""
    running.upstream.messages.clear()
    return running


def refusal(call: Callable[..., Any], **parameters: object) -> str:
    """The code of the error of a call that must fail."""
    with pytest.raises(ClientError) as raised:
        call(**parameters)
    code: str = raised.value.response["Error"]["Code"]
    return code


def test_boto3_grants_and_the_delegate_sends(api: Api) -> None:
    owner, delegate = api.boto3("ses"), api.boto3("ses", LOGIN.username)
    given = {"Identity": IDENTITY, "PolicyName": "boto3"}
    message = {
        "SourceArn": IDENTITY,
        "FromArn": IDENTITY,
        "Destinations": ["jane@example.net"],
        "RawMessage": {"Data": f"From: {FROM}\nSubject: Spring\n\nHello.\n"},
    }
    assert refusal(delegate.send_raw_email, **message) == "AccessDenied"
    owner.put_identity_policy(**given, Policy=json.dumps(POLICY))
    found = owner.get_identity_policies(Identity=IDENTITY, PolicyNames=["boto3"])
    assert json.loads(found["Policies"]["boto3"]) == POLICY

    def try_again() -> str | None:
        """The id, once the policy has reached the path of messages."""
        try:
            message_id: str = delegate.send_raw_email(**message)["MessageId"]
        except delegate.exceptions.ClientError:
            return None
        return message_id

    message_id = eventually(try_again, "the delegate may send") or ""
    (sent,) = api.sent()
    assert message_id.encode() in sent.header
    assert sent.recipients == ("jane@example.net",)
    owner.delete_identity_policy(**given)
    assert "boto3" not in owner.list_identity_policies(Identity=DOMAIN_NAME)["PolicyNames"]
    lines = [one for one in api.gate.log_lines() if one.get("operation") == "PutIdentityPolicy"]
    assert [(one["status"], one.get("tls")) for one in lines] == [(200, None)]  # not "none"


def test_boto3_sends_by_version_2_with_an_attachment(api: Api) -> None:
    body = {"Text": {"Data": "Grüße"}, "Html": {"Data": "<p>Grüße</p>"}}
    attachment = {
        "FileName": "figures.csv",
        "ContentType": "text/csv",
        "RawContent": b"a,b\r\n1,2\r\n",
    }
    simple = {"Subject": {"Data": "Figures"}, "Body": body, "Attachments": [attachment]}
    api.boto3("sesv2").send_email(
        FromEmailAddress=f"News <{FROM}>",
        Destination={"ToAddresses": ["jane@example.net"], "BccAddresses": ["joe@example.org"]},
        Content={"Simple": simple},
    )
    (sent,) = api.sent()
    assert sent.recipients == ("jane@example.net", "joe@example.org")
    message = email.message_from_bytes(sent.message, policy=email.policy.default)
    (attached,) = message.iter_attachments()
    assert (attached.get_filename(), attached.get_content()) == (
        "figures.csv",
        "a,b\r\n1,2\r\n",
    )
    assert "joe@example.org" not in sent.message.decode()
