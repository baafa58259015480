"""The two accounts of most tests: one owns a domain, the other sends for it."""

from typing import Any, Final, Protocol

REGION: Final = "us-east-1"
OWNER: Final = "888888888888"
DELEGATE: Final = "999999999999"
PAUSED: Final = "777777777777"  # where a third one is needed
DOMAIN_NAME: Final = "ses-example.com"
IDENTITY: Final = f"arn:aws:ses:{REGION}:{OWNER}:identity/{DOMAIN_NAME}"
# As commands name the owner's domain, and the delegate's user.
DOMAIN: Final = f"{OWNER}/{DOMAIN_NAME}"
MAILER: Final = f"{DELEGATE}/mailer"


class Commands(Protocol):
    """Gives commands to a directory."""

    def says(self, *words: str) -> Any:  # noqa: ANN401 - what is printed
        """Give a command that must succeed."""


def make_accounts(desk: Commands) -> None:
    """Make both accounts, with nothing in them."""
    for account_id in (OWNER, DELEGATE):
        desk.says("account", "create", account_id)
