"""The two accounts of most tests: one owns a domain, the other sends for it.

Their policies and their secret are written here alone. :mod:`tests.support.tenants` makes
accounts in a store, :func:`make_accounts` makes them by commands, and the gates of
:mod:`tests.support.inprocess` and :mod:`tests.support.gate` apply documents.
"""

import json
from typing import Any, Final, Protocol

from smtpgate.core.secret import Secret, smtp_password

REGION: Final = "us-east-1"
OWNER: Final = "888888888888"
DELEGATE: Final = "999999999999"
PAUSED: Final = "777777777777"  # where a third one is needed
DOMAIN_NAME: Final = "ses-example.com"
IDENTITY: Final = f"arn:aws:ses:{REGION}:{OWNER}:identity/{DOMAIN_NAME}"
# The secret of each access key, from AWS's documentation, and the password that follows.
SECRET: Final = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
PASSWORD: Final = smtp_password(Secret(SECRET), REGION).value
# As commands name the owner's domain, and the delegate's user.
DOMAIN: Final = f"{OWNER}/{DOMAIN_NAME}"
MAILER: Final = f"{DELEGATE}/mailer"


def grant(**members: object) -> str:
    """An identity policy that lets the delegate send, less or more what is given."""
    return _document(
        {
            "Sid": "Grant",
            "Effect": "Allow",
            "Principal": {"AWS": DELEGATE},
            "Action": "ses:SendRawEmail",
            "Resource": IDENTITY,
            **members,
        }
    )


def may_send(action: str = "ses:SendRawEmail") -> str:
    """A user policy that lets its user send with every identity."""
    return _document({"Sid": "MaySend", "Effect": "Allow", "Action": action, "Resource": "*"})


def sent_as(*addresses: str) -> dict[str, object]:
    """The condition that From is like one of those addresses."""
    found = addresses[0] if len(addresses) == 1 else addresses
    return {"StringLike": {"ses:FromAddress": found}}


def _document(statement: dict[str, object]) -> str:
    document = {"Version": "2012-10-17", "Statement": statement}
    return json.dumps(document, indent=2) + "\n"


class Commands(Protocol):
    """Gives commands to a directory."""

    def says(self, *words: str) -> Any:  # noqa: ANN401 - what is printed
        """Give a command that must succeed."""


def make_accounts(desk: Commands) -> None:
    """Make both accounts, with nothing in them."""
    for account_id in (OWNER, DELEGATE):
        desk.says("account", "create", account_id)
