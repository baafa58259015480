"""The two accounts of most tests: one owns a domain, the other sends for it.

Their documents, their policies and their secret are written here alone:
:func:`make_accounts` makes them by commands, and the gates of :mod:`tests.support.inprocess`
and :mod:`tests.support.gate` apply :func:`two_accounts`. :mod:`tests.support.tenants` makes
any accounts in a store.
"""

import json
from collections.abc import Mapping
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


def two_accounts(
    *,
    policy: tuple[str, str],
    dkim: Mapping[str, str],
    user_policy: str,
    access_key: tuple[str, str],
    limits: tuple[int, int],
    more_of_owner: str = "",
) -> str:
    """Both accounts as a document: the owner with its domain, the delegate with its user.

    ``policy`` is the name and the file of the domain's policy, ``dkim`` has the file of the key
    of each selector, ``user_policy`` is the file of the user's policy, ``access_key`` the id of
    its key and the file of the secret. ``limits`` are the delegate's in 24 hours and a second.
    """
    name, file = policy
    keys = ", ".join(
        f'{{ selector = "{selector}", key_file = "{its}" }}' for selector, its in dkim.items()
    )
    key_id, secret_file = access_key
    return f"""\
[accounts.{OWNER}]
name = "Identity owner"
{more_of_owner}[accounts.{OWNER}.identities."{DOMAIN_NAME}"]
verified = true
policies = {{ {name} = "{file}" }}
dkim = [{keys}]

[accounts.{DELEGATE}]
name = "Delegate sender"
max_24h_send = {limits[0]}
max_send_rate_per_s = {limits[1]}
[accounts.{DELEGATE}.users.mailer]
policies = {{ send = "{user_policy}" }}
[[accounts.{DELEGATE}.users.mailer.access_keys]]
id = "{key_id}"
secret_file = "{secret_file}"
"""


class Commands(Protocol):
    """Gives commands to a directory."""

    def says(self, *words: str) -> Any:  # noqa: ANN401 - what is printed
        """Give a command that must succeed."""


def make_accounts(desk: Commands) -> None:
    """Make both accounts, with nothing in them."""
    for account_id in (OWNER, DELEGATE):
        desk.says("account", "create", account_id)
