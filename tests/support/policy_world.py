"""A configuration on disk with the announcement's two accounts, and others to ask about."""

import json
from pathlib import Path
from typing import Final

from tests.support.directory import MASTER_KEYS
from tests.support.world import DELEGATE, IDENTITY, OWNER, PAUSED

_CEO: Final = f"arn:aws:ses:us-east-1:{OWNER}:identity/ceo@ses-example.com"

_CONFIG: Final = """
[gate]
hostname = "gate.example.com"
[listener.submission]
port = 2587
tls = "none"
allow_plaintext_auth = true
[upstream.default]
host = "127.0.0.1"
port = 2525
tls = "off"
[directory]
apply = "directory"
master_key_file = "master.key"
recheck = false
"""
_ACCOUNTS: Final = f"""
[accounts.{OWNER}]
name = "Identity owner"
[accounts.{OWNER}.users.own]
policies = {{ may-send = "may-send.json" }}
[accounts.{OWNER}.identities."ses-example.com"]
verified = true
policies = {{ marketing = "marketing.json", press = "press.json" }}
[accounts.{OWNER}.identities."ceo@ses-example.com"]
verified = true
policies = {{ never = "never.json" }}
[accounts.{DELEGATE}]
name = "Delegate sender"
[accounts.{DELEGATE}.users.mailer]
policies = {{ may-send = "may-send.json" }}
[accounts.{DELEGATE}.users.alerts]
path = "/robots/"
policies = {{ alerts-only = "alerts-only.json" }}
[accounts.{DELEGATE}.users.idle]
[accounts.{PAUSED}]
status = "paused"
paused_reason = "unpaid"
[accounts.{PAUSED}.users.mailer]
policies = {{ may-send = "may-send.json" }}
"""
_ANY: Final = "ses:SendRawEmail"
_POLICIES: Final[dict[str, dict[str, object]]] = {
    "may-send": {"Sid": "MaySend", "Effect": "Allow", "Action": _ANY, "Resource": "*"},
    "alerts-only": {
        "Sid": "AlertsOnly",
        "Effect": "Allow",
        "Action": _ANY,
        "Resource": "*",
        "Condition": {
            "StringEquals": {"ses:FromAddress": "marketing+alerts@ses-example.com"},
            "IpAddress": {"aws:SourceIp": "192.0.2.0/24"},
        },
    },
    "marketing": {
        "Sid": "AuthorizeMarketer",
        "Effect": "Allow",
        "Principal": {"AWS": DELEGATE},
        "Action": _ANY,
        "Resource": IDENTITY,
        "Condition": {
            "StringLike": {
                "ses:FromAddress": ["marketing@ses-example.com", "marketing+*@ses-example.com"]
            }
        },
    },
    "press": {
        "Sid": "PressUntil",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{DELEGATE}:user/mailer"},
        "Action": _ANY,
        "Resource": IDENTITY,
        "Condition": {
            "StringEquals": {"ses:FromAddress": "press@ses-example.com"},
            "DateLessThan": {"aws:CurrentTime": "2027-07-01T00:00:00Z"},
            "ForAllValues:StringLike": {"ses:Recipients": "*@example.net"},
            "Null": {"ses:Recipients": "false"},
        },
    },
    "never": {
        "Sid": "NeverAsTheBoss",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "ses:*",
        "Resource": _CEO,
        "Condition": {"ArnNotLike": {"aws:PrincipalArn": f"arn:aws:iam::{OWNER}:root"}},
    },
}


def write_world(folder: Path) -> Path:
    """Write the files into a folder; the path of the configuration."""
    directory = folder / "directory"
    directory.mkdir()
    (directory / "accounts.toml").write_text(_ACCOUNTS)
    for name, statement in _POLICIES.items():
        document = {"Version": "2012-10-17", "Statement": statement}
        (directory / f"{name}.json").write_text(json.dumps(document))
    (folder / "master.key").write_text(MASTER_KEYS)
    (folder / "master.key").chmod(0o600)
    config = folder / "smtpgate.toml"
    config.write_text(_CONFIG)
    return config
