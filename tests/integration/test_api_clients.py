"""Clients of Amazon SES, unmodified, that call a gate's API over TLS."""

import email
import email.policy
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab, eventually, free_port, missing, need
from tests.support.gate import ACCOUNTS, LOGIN, ROOT, Gate, GatePlan, is_signed, start_gate
from tests.support.mailclients import NODEMAILER
from tests.support.npm import npm_folder
from tests.support.recorder import Recorder, recorder
from tests.support.sdist import ansible_collections
from tests.support.smtpsink import SunkMessage
from tests.support.world import DELEGATE, DOMAIN_NAME, IDENTITY, OWNER, REGION, SECRET

HERE: Final = Path(__file__).parent
PACKAGES: Final = {"nodemailer": NODEMAILER, "@aws-sdk/client-sesv2": "3.1176.0"}
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
        """The settings of clients of AWS: the endpoint, the key, and the test's authority."""
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

    def run(
        self,
        command: Sequence[str | Path],
        given: object = None,
        key_id: str = OWNER_KEY,
        settings: Mapping[str, str] | None = None,
    ) -> str:
        """The output of a program that must succeed; ``given`` is on its standard input."""
        done = subprocess.run(
            command,
            input=json.dumps(given),
            env=_without_settings(os.environ) | self.environment(key_id) | dict(settings or {}),
            cwd=self.lab.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def sent(self, count: int = 1) -> list[SunkMessage]:
        """The messages that a client has sent; so many, and signed for the domain."""
        found = self.upstream.wait_for(count)
        assert len(found) == count
        assert all(is_signed(one.message) for one in found)
        assert not any(b"x-ses-" in one.header.lower() for one in found)
        return found


def _without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in environment.items() if not key.startswith("AWS_")}


def read(sent: SunkMessage) -> EmailMessage:
    """A message as Python reads it."""
    return email.message_from_bytes(sent.message, policy=email.policy.default)


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
    (attached,) = read(sent).iter_attachments()
    assert (attached.get_filename(), attached.get_content()) == (
        "figures.csv",
        "a,b\r\n1,2\r\n",
    )
    assert "joe@example.org" not in sent.message.decode()


def test_the_aws_cli_manages_and_sends(api: Api) -> None:
    program = Path(sys.executable).with_name("aws")
    if not program.exists():
        missing("the AWS CLI is not installed: `pip install -e .[dev]'")

    def aws(*words: str, key_id: str = OWNER_KEY) -> Any:  # noqa: ANN401 - JSON
        printed = api.run([program, *words, "--output", "json"], key_id=key_id)
        return json.loads(printed) if printed else None

    assert aws("sts", "get-caller-identity")["Account"] == OWNER
    assert aws("ses", "list-identities") == {"Identities": [DOMAIN_NAME]}
    listed = aws("sesv2", "list-email-identities")["EmailIdentities"]
    assert [one["IdentityName"] for one in listed] == [DOMAIN_NAME]
    aws("ses", "wait", "identity-exists", "--identities", DOMAIN_NAME)
    named = ("--email-identity", DOMAIN_NAME, "--policy-name", "cli")
    aws("sesv2", "create-email-identity-policy", *named, "--policy", json.dumps(POLICY))
    found = aws("sesv2", "get-email-identity-policies", "--email-identity", DOMAIN_NAME)
    assert json.loads(found["Policies"]["cli"]) == POLICY
    aws("sesv2", "delete-email-identity-policy", *named)
    to = ("--to", "jane@example.net", "--subject", "Spring", "--text", "Hello.")
    message_id = aws("ses", "send-email", "--from", FROM, *to)["MessageId"]
    (sent,) = api.sent()
    assert message_id.encode() in sent.header
    assert read(sent)["Subject"] == "Spring"


def test_nodemailer_and_the_sdk_for_javascript(api: Api) -> None:
    job = {"modules": str(npm_folder("api-clients", PACKAGES)), "from": FROM}
    found = json.loads(api.run([need("node", "nodejs"), HERE / "call.mjs"], job))
    (sent,) = api.sent()
    assert found["verified"] is True  # by a MessageRejected for invalid@invalid
    assert found["sent"].encode() in sent.header
    assert sent.recipients == ("jane@example.net", "joe@example.org")
    assert read(sent)["Subject"] == "Grüße"
    assert found["identities"] == [DOMAIN_NAME]
    assert found["refused"] == ["NotFoundException", 404, True]


def test_django_ses_sends_and_shows_its_dashboard(api: Api) -> None:
    given = {"by": "django-ses", "url": api.url, "region": REGION, "from": FROM}
    found = json.loads(api.run([sys.executable, HERE / "call_django.py"], given))
    sent = api.sent(2)
    assert [read(one)["Subject"] for one in sent] == ["Version 1", "Version 2"]
    for version, one in enumerate(sent, 1):
        assert found[f"sent by version {version}"] == 1
        assert found[f"id by version {version}"].encode() in one.header
        assert one.recipients == ("jane@example.net", "joe@example.org")
    assert found["24hour_sent"] >= 4  # two messages with two recipients


def test_django_anymail_sends(api: Api) -> None:
    given = {"by": "anymail", "url": api.url, "region": REGION, "from": FROM}
    found = json.loads(api.run([sys.executable, HERE / "call_django.py"], given))
    (sent,) = api.sent()
    assert (found["sent"], found["status"]) == (1, ["queued"])
    assert found["id"].encode() in sent.header
    assert read(sent).get_content_type() == "multipart/alternative"


def test_symfony_mailer_and_async_aws(api: Api) -> None:
    php = need("php", "php-cli")
    if not Path("/usr/share/php/Symfony/Component/Mailer/Bridge/Amazon").exists():
        missing("Symfony's bridge is not installed (Debian package php-symfony-amazon-mailer)")
    job = {
        "host": LOOPBACK,
        "port": api.gate.plan.api_port,
        "region": REGION,
        "key": OWNER_KEY,
        "secret": SECRET,
        "caFile": str(api.authority.ca_file),
        "from": FROM,
    }
    ids = json.loads(api.run([php, HERE / "call.php"], job))
    sent = api.sent(2)
    schemes = ("ses+https", "ses+api")
    assert [read(one)["Subject"] for one in sent] == [f"Grüße by {one}" for one in schemes]
    for scheme, one in zip(schemes, sent, strict=True):
        assert ids[scheme].encode() in one.header
        assert one.recipients == ("jane@example.net", "joe@example.org")


# It runs once: without inlining and symbols it is made in three quarters of the time.
_GO_QUICKLY: Final = ("-gcflags=github.com/...=-l -dwarf=false", "-ldflags=-s -w")


def go_program(lab: Lab, source: Path) -> Path:
    """A program of Go, made with the packages that .ci/unpack has unpacked."""
    unpacked = ROOT / ".cache/debian/go/usr"
    if not unpacked.exists():
        missing("Go is not there (.ci/unpack downloads Debian's golang-1.19-go and its SDK)")
    program = lab.folder / source.stem
    done = subprocess.run(
        [unpacked / "lib/go-1.19/bin/go", "build", *_GO_QUICKLY, "-o", program, source],
        env={
            "PATH": os.environ["PATH"],
            "GOROOT": str(unpacked / "lib/go-1.19"),
            "GOPATH": str(unpacked / "share/gocode"),
            "GO111MODULE": "off",
            "GOCACHE": str(ROOT / ".cache/go-build"),
        },
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return program


def test_the_sdk_for_go(api: Api) -> None:
    job = {"url": api.url, "from": FROM}
    found = json.loads(api.run([go_program(api.lab, HERE / "call.go")], job))
    raw, simple = api.sent(2)
    assert found["Raw"].encode() in raw.header
    assert found["Simple"].encode() in simple.header
    assert (raw.recipients, read(raw)["Subject"]) == (("jane@example.net",), "Raw")
    assert simple.recipients == ("jane@example.net", "joe@example.org")
    assert read(simple)["Subject"] == "Grüße"
    assert found["Sent"] >= 3
    assert found["Quota"] > 0
    assert "Email address is not verified." in found["Refused"]
    assert found["NotFound"] == ["NotFoundException", 404, True]


def test_the_modules_of_ansible_find_done_what_they_have_done(api: Api) -> None:
    program = Path(sys.executable).with_name("ansible-playbook")
    if not program.exists():
        missing("Ansible is not installed: `pip install -e .[dev]'")
    given = {
        "ansible_python_interpreter": sys.executable,
        "domain": DOMAIN_NAME,
        "document": json.dumps(POLICY),
    }
    settings = {
        "ANSIBLE_COLLECTIONS_PATH": str(ansible_collections()),
        "ANSIBLE_HOME": str(api.lab.new_folder("ansible")),
        "LC_ALL": "C.UTF-8",
    }
    words = ("--inventory", "localhost,", "--extra-vars", json.dumps(given))
    recap = api.run([program, *words, HERE / "call.yml"], settings=settings)
    assert "changed=4 " in recap
    assert api.boto3("ses").list_identities()["Identities"] == [DOMAIN_NAME]
