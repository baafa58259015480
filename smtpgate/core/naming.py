"""The rules for names and ids of accounts, users, tags and access keys.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
"""

import base64
import re
import unicodedata
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from smtpgate.core.address import AddressError, parse_forward_path
from smtpgate.core.arn import is_account_id

ACCESS_KEY_OCTETS: Final = 10
USER_ID_OCTETS: Final = 11
MAX_ACTIVE_KEYS: Final = 2  # of one user, and of an account's root
MAX_CERTIFICATES: Final = 10  # of an access key
MAX_NETWORKS: Final = 100  # of an access key; each message is checked against all of them
_USER_NAME: Final = re.compile(r"[A-Za-z0-9_+=,.@-]{1,64}")
_USER_PATH: Final = re.compile(r"/|/[\x21-\x7e]{1,510}/")
_TAG_KEY: Final = re.compile(r"[\w.:/=+@-]{1,128}")
_MAX_LINE: Final = 256
_NOT_IN_A_LINE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
_MAPPED: Final = IPv6Network("::ffff:0:0/96")  # RFC 4291 §2.5.5.2
_MAX_TAGS: Final = 50
_CERTIFICATE_PIN: Final = re.compile("sha256:[0-9a-f]{64}")
_ORGANIZATION_ID: Final = re.compile(r"o-[a-z0-9]{10,32}")
_KEY_ID: Final = re.compile(r"[A-Z0-9]{16,128}")


def account_id(text: str) -> str:
    """An account's id. Raises ValueError."""
    if not is_account_id(text):
        raise ValueError("an account id has 12 digits")
    return text


def one_line(text: str) -> str:
    """A text for people, such as an account's name or a pause reason. Raises ValueError."""
    if len(text) > _MAX_LINE:
        raise ValueError(f"a text has at most {_MAX_LINE} characters")
    if any(unicodedata.category(character) in _NOT_IN_A_LINE for character in text):
        raise ValueError("a text must not contain control characters or line ends")
    return text


def pause_reason(text: str) -> str:
    """The reason for a pause, which senders see in the reply. Raises ValueError."""
    if not text.strip():
        raise ValueError("say why it is paused")
    return one_line(text)


def is_user_name(text: str) -> bool:
    """True if the text is a valid user name."""
    return _USER_NAME.fullmatch(text) is not None


def user_name(text: str) -> str:
    """A user's name. Raises ValueError."""
    if not is_user_name(text):
        raise ValueError("a user name has 1 to 64 letters, digits and _+=,.@-")
    return text


def user_key(name: str) -> str:
    """The key of a user in its account: user names are unique without regard to letter case."""
    return name.lower()


def user_path(text: str) -> str:
    """The path of a user. Raises ValueError."""
    if _USER_PATH.fullmatch(text) is None:
        raise ValueError("a user's path is / or begins and ends with /")
    return text


def organization_id(text: str) -> str:
    """An organization's id. Raises ValueError."""
    if _ORGANIZATION_ID.fullmatch(text) is None:
        raise ValueError("an organization id is o- and 10 to 32 lower-case letters and digits")
    return text


def contact_address(text: str) -> str:
    """The mail address of an account's administrator. Raises ValueError."""
    try:
        return str(parse_forward_path(f"<{text}>"))
    except AddressError as error:
        raise ValueError(f"`{text}' is no mail address: {error}") from None


def tag_key(text: str) -> str:
    """The key of a tag. Raises ValueError."""
    if _TAG_KEY.fullmatch(text) is None:
        raise ValueError("a tag's key has 1 to 128 letters, digits and _.:/=+@-")
    return text


def tags(pairs: Mapping[str, str]) -> dict[str, str]:
    """A user's tags. Raises ValueError."""
    for key, value in pairs.items():
        tag_key(key)
        try:
            one_line(value)
        except ValueError as error:
            raise ValueError(f"tag {key}: {error}") from None
    # A tag is part of a condition key, and those are compared without regard to letter case.
    if len({key.lower() for key in pairs}) < len(pairs):
        raise ValueError("two tags differ in letter case only")
    if len(pairs) > _MAX_TAGS:
        raise ValueError(f"a user has at most {_MAX_TAGS} tags")
    return dict(pairs)


def is_access_key_id(text: str) -> bool:
    """True if the text is a valid access key id."""
    return _KEY_ID.fullmatch(text) is not None


def access_key_id(text: str) -> str:
    """An access key's id. Raises ValueError."""
    if not is_access_key_id(text):
        raise ValueError("an access key id has 16 to 128 upper-case letters and digits")
    return text


def network(text: str) -> IPv4Network | IPv6Network:
    """A network that an access key may be used from. Raises ValueError."""
    try:
        found = ip_network(text)
    except ValueError as error:
        raise ValueError(f"is not a network such as 192.0.2.0/24: {error}") from None
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        raise ValueError(
            "is an IPv4-mapped IPv6 network, which never matches; write it as IPv4"
        )
    return found


def certificate_pin(text: str) -> str:
    """The pin of a certificate: ``sha256:`` and the SHA-256 of its public key, in hex.

    The key as in the certificate, a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7) in DER, so that a
    renewed certificate with the same key has the same pin. Raises ValueError.
    """
    if _CERTIFICATE_PIN.fullmatch(text) is None:
        raise ValueError(
            "is not the pin of a certificate: sha256: and the 64 lower-case hexadecimal "
            "digits of the SHA-256 of its public key"
        )
    return text


def new_access_key_id(random_octets: bytes) -> str:
    """An id for a new access key, from 10 random octets, in IAM's form."""
    return "AKIA" + base64.b32encode(random_octets).decode("ascii")[:16]


def new_user_id(random_octets: bytes) -> str:
    """A unique id for a new user (``aws:userid``), from 11 random octets."""
    return "AIDA" + base64.b32encode(random_octets).decode("ascii")[:17]
