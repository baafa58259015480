from collections.abc import Callable
from typing import Final

import pytest

from smtpgate.core.notification.names import (
    SnsArn,
    configuration_set_name,
    display_name,
    read_endpoint,
    subscription_id,
    topic_name,
)
from smtpgate.core.secret import Secret
from tests.support.rows import rows
from tests.support.world import OWNER

_URLS: Final = [
    ("https://hooks.example.com", "https://hooks.example.com", None),
    (
        "https://hooks.example.com:8443/a?b=c%20d",
        "https://hooks.example.com:8443/a?b=c%20d",
        None,
    ),
    ("https://[2001:db8::1]/x", "https://[2001:db8::1]/x", None),
    ("https://me:pass@hooks.example.com/a", "https://hooks.example.com/a", "me:pass"),
    ("https://m%40e:p%3Aa%C3%BC@x.example/", "https://x.example/", "m@e:p:aü"),
]
_REFUSED: Final = [
    "",
    "hooks.example.com",
    "ftp://hooks.example.com/",
    "http://hooks.example.com/",
    "https://",
    "https:///path",
    "https://hooks.example.com/a b",
    "https://hooks.example.com/#fragment",
    "https://hooks.example.com:0/",
    "https://hooks.example.com:65536/",
    "https://hooks.example.com\r\nX: y/",
    "https://hooks.exämple/",
    "https://-hooks.example/",
    "https://me@hooks.example.com/",
    "https://:pass@hooks.example.com/",
    "https://a:%ff@hooks.example.com/",
    "https://a:b@c:d@hooks.example.com/",
    "https://hooks.example.com/" + "x" * 2000,
]


@rows("text, url, credentials", _URLS, ids=repr)
def test_a_url_is_read_and_its_credentials_are_taken_out(
    text: str, url: str, credentials: str | None
) -> None:
    read = read_endpoint(text, "sns", allow_plaintext=False)
    assert read.url == url
    assert read.credentials == (None if credentials is None else Secret(credentials))


@rows("text", _REFUSED, ids=repr)
def test_anything_else_is_no_endpoint(text: str) -> None:
    with pytest.raises(ValueError, match=r"URL|https|UTF-8"):
        read_endpoint(text, "raw", allow_plaintext=False)


def test_plaintext_is_allowed_by_a_setting() -> None:
    read = read_endpoint("http://127.0.0.1:8080/", "raw", allow_plaintext=True)
    assert read.url == "http://127.0.0.1:8080/"


def test_an_email_subscription_has_an_address() -> None:
    read = read_endpoint("Boss@EXAMPLE.com", "email", allow_plaintext=False)
    assert read.url == "Boss@example.com"
    with pytest.raises(ValueError, match="needs an address"):
        read_endpoint("https://hooks.example.com", "email", allow_plaintext=False)


def test_arns_of_topics_and_subscriptions_are_read_and_written() -> None:
    one = f"arn:aws:sns:us-east-1:{OWNER}:bounces:{subscription_id(bytes(range(16)))}"
    for text in (one, "arn:aws-cn:sns:cn-north-1:888888888888:a_b-C"):
        assert str(SnsArn.parse(text)) == text
    assert SnsArn.parse(one).id == "00010203-0405-0607-0809-0a0b0c0d0e0f"


@rows(
    "text",
    [
        "arn:aws:sns:us-east-1:888888888888:",
        "arn:aws:sns:us-east-1:888888888888:a.b",
        "arn:aws:sns:us-east-1:88888888888:a",
        "arn:aws:ses:us-east-1:888888888888:identity/a",
        "arn:aws:sns:us-east-1:888888888888:a:b",
    ],
    ids=repr,
)
def test_other_texts_are_no_arns_of_topics(text: str) -> None:
    with pytest.raises(ValueError, match="no ARN"):
        SnsArn.parse(text)


@rows(
    "read, text, says",
    [
        (configuration_set_name, "", "1 to 64 letters, digits, - and _"),
        (configuration_set_name, "a" * 65, "1 to 64 letters, digits, - and _"),
        (configuration_set_name, "a.b", "1 to 64 letters, digits, - and _"),
        (topic_name, "a" * 257, "1 to 256 letters, digits, - and _"),
        (display_name, "a" * 101, "at most 100 characters"),
    ],
)
def test_a_name_that_ses_does_not_have_is_refused(
    read: Callable[[str], str], text: str, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        read(text)
    assert read("Spring-2026") == "Spring-2026"
