"""Amazon resource names: of identities, and of the principals that use them."""

import re
from typing import Final

from msgspec import Struct
from msgspec.structs import force_setattr

from smtpgate.core.address import AddressError, parse_domain, parse_mailbox

_IDENTITY_ARN: Final = re.compile(
    r"arn:(?P<partition>aws|aws-cn|aws-us-gov):ses:(?P<region>[a-z0-9-]{1,32}|\*):"
    r"(?P<account_id>[0-9]{12}):identity/(?P<name>[^\s/]{1,320})"
)
_ACCOUNT_ID: Final = re.compile(r"[0-9]{12}")


class ArnError(ValueError):
    """A text that is not an ARN of the expected kind."""


def is_account_id(text: str) -> bool:
    """True if the text is a 12-digit account id."""
    return _ACCOUNT_ID.fullmatch(text) is not None


def root_arn(account_id: str, partition: str = "aws") -> str:
    """The ARN that names an account as a whole."""
    return f"arn:{partition}:iam::{account_id}:root"


def user_arn(account_id: str, user_name: str, path: str = "/", partition: str = "aws") -> str:
    """The ARN of a user; the path is part of it (``user/team-a/John``)."""
    return f"arn:{partition}:iam::{account_id}:user{path}{user_name}"


def identity_name(text: str) -> str:
    """The one spelling of an identity's name: a domain, or an address with its domain folded.

    The local part of an address is compared exactly. Raises ArnError.
    """
    try:
        return str(parse_mailbox(text)) if "@" in text else parse_domain(text)
    except AddressError as error:
        raise ArnError(f"{text!r} is neither a domain nor an address: {error}") from None


class IdentityArn(Struct, frozen=True, gc=False):
    """``arn:{partition}:ses:{region}:{account}:identity/{address or domain}``.

    ``region`` is ``*`` in the ARN of a multi-region endpoint. ``text`` is made of the others.
    """

    partition: str
    region: str
    account_id: str
    name: str
    text: str = ""

    def __post_init__(self) -> None:
        text = f"arn:{self.partition}:ses:{self.region}:{self.account_id}:identity/{self.name}"
        force_setattr(self, "text", text)

    @classmethod
    def parse(cls, text: str) -> "IdentityArn":
        """Read an identity's ARN; the name is brought to its one spelling. Raises ArnError."""
        match = _IDENTITY_ARN.fullmatch(text)
        if match is None:
            raise ArnError(f"Invalid ARN <{text}>.")
        parts = match.groupdict()
        parts["name"] = identity_name(parts["name"])
        return cls(**parts)

    def __str__(self) -> str:
        return self.text


def identity_arn(text: str) -> IdentityArn:
    """An identity's ARN. Raises ValueError."""
    try:
        return IdentityArn.parse(text)
    except ArnError:
        example = "arn:aws:ses:us-east-1:888888888888:identity/example.com"
        raise ValueError(f"`{text}' is not the ARN of an identity, such as {example}") from None
