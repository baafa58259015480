"""The names and addresses of topics, subscriptions and configuration sets."""

import re
from itertools import pairwise
from typing import Final

from msgspec import Struct

from smtpgate.core.address import AddressError, parse_mailbox
from smtpgate.core.naming import one_line
from smtpgate.core.notification.settings import SubscriptionForm
from smtpgate.core.secret import Secret

SUBSCRIPTION_OCTETS: Final = 16
MAX_SUBSCRIPTIONS: Final = 100  # of a topic: an event is sent to each
MAX_TAGS: Final = 50
# https://docs.aws.amazon.com/sns/latest/api/API_CreateTopic.html
_TOPIC: Final = re.compile(r"[A-Za-z0-9_-]{1,256}")
# https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_CreateConfigurationSet.html
_SET: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TOPIC_ARN: Final = re.compile(
    r"arn:(?P<partition>aws|aws-cn|aws-us-gov):sns:(?P<region>[a-z0-9-]{1,32}):"
    r"(?P<account_id>[0-9]{12}):(?P<name>[A-Za-z0-9_-]{1,256})"
    r"(?::(?P<id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}))?"
)
# RFC 3986 §3 without what no receiver needs: user information but for Basic authentication,
# a fragment, names that are not ASCII.
_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?:(?P<userinfo>[!-.0-?A-~]{1,512})@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<path>/[!\"$-~]*)?(?P<query>\?[!\"$-~]*)?"
)
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_MAX_URL: Final = 2000
_MAX_DISPLAY_NAME: Final = 100
_MAX_PORT: Final = 65_535


class SnsArn(Struct, frozen=True, gc=False):
    """``arn:{partition}:sns:{region}:{account}:{topic}``, and of a subscription ``:{id}``."""

    partition: str
    region: str
    account_id: str
    name: str
    id: str | None = None

    @classmethod
    def parse(cls, text: str) -> "SnsArn":
        """Read the ARN of a topic or subscription. Raises ValueError."""
        match = _TOPIC_ARN.fullmatch(text)
        if match is None:
            raise ValueError(f"`{text}' is no ARN of a topic or subscription")
        return cls(**match.groupdict())

    def __str__(self) -> str:
        topic = f"arn:{self.partition}:sns:{self.region}:{self.account_id}:{self.name}"
        return topic if self.id is None else f"{topic}:{self.id}"


class Endpoint(Struct, frozen=True, gc=False):
    """The URL or the address of a subscription.

    ``url`` has no credentials: those of Basic authentication (RFC 7617) are kept secret.
    """

    url: str
    credentials: Secret | None = None


def topic_name(text: str) -> str:
    """The name of a topic. Raises ValueError."""
    if _TOPIC.fullmatch(text) is None:
        raise ValueError("the name of a topic has 1 to 256 letters, digits, - and _")
    return text


def display_name(text: str) -> str:
    """The name of a topic for people. Raises ValueError."""
    if len(text) > _MAX_DISPLAY_NAME:
        raise ValueError(f"a display name has at most {_MAX_DISPLAY_NAME} characters")
    return one_line(text)


def configuration_set_name(text: str) -> str:
    """The name of a configuration set, or of a destination of it. Raises ValueError."""
    if _SET.fullmatch(text) is None:
        raise ValueError("a name has 1 to 64 letters, digits, - and _")
    return text


def subscription_id(octets: bytes) -> str:
    """The id of a subscription, made unique by 16 random octets."""
    digits = octets.hex()
    cuts = (0, 8, 12, 16, 20, 32)
    return "-".join(digits[a:b] for a, b in pairwise(cuts))


def read_endpoint(text: str, form: SubscriptionForm, *, allow_plaintext: bool) -> Endpoint:
    """The endpoint of a subscription. Raises ValueError.

    ``allow_plaintext`` is whether the scheme may be ``http``.
    """
    if form == "email":
        try:
            return Endpoint(str(parse_mailbox(text)))
        except AddressError as error:
            raise ValueError(f"an e-mail subscription needs an address: {error}") from None
    match = _URL.fullmatch(text) if len(text) <= _MAX_URL else None
    if match is None or int(match["port"] or 1) not in range(1, _MAX_PORT + 1):
        raise ValueError("not a URL such as https://hooks.example.com/bounces")
    if match["scheme"] == "http" and not allow_plaintext:
        raise ValueError("only https:// is allowed (notifications.allow_plaintext)")
    userinfo = match["userinfo"]
    if userinfo is None:
        return Endpoint(text)
    name, colon, password = userinfo.partition(":")
    if not name or not colon:
        raise ValueError("credentials in a URL are a name and a password: name:password@")
    bare = text.replace(f"{userinfo}@", "", 1)
    return Endpoint(bare, Secret(f"{_unescaped(name)}:{_unescaped(password)}"))


def _unescaped(text: str) -> str:
    """The text without percent-encoding (RFC 3986 §2.1)."""
    octets = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text).encode("latin-1")
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise ValueError("credentials in a URL are UTF-8, percent-encoded") from None
