import pytest

from smtpgate.core.secret import Secret
from smtpgate.smtp.sasl import (
    WITH_PASSWORD,
    WITH_TOKEN,
    Credentials,
    SaslError,
    TokenCredentials,
    decode_response,
    login,
    oauthbearer,
    plain,
    xoauth2,
)
from tests.support.rows import rows


def test_plain_takes_one_response() -> None:
    exchange = plain()
    assert next(exchange) == b""
    with pytest.raises(StopIteration) as done:
        exchange.send(b"\0AKIAEXAMPLE\0secret")
    assert done.value.value == Credentials(b"AKIAEXAMPLE", b"secret")


def test_plain_may_name_the_login_itself_as_authorization_identity() -> None:
    exchange = plain()
    next(exchange)
    with pytest.raises(StopIteration) as done:
        exchange.send(b"me\0me\0secret")
    assert done.value.value.username == b"me"


@pytest.mark.parametrize("response", [b"", b"me", b"me\0secret", b"\0a\0b\0c"])
def test_plain_of_another_form_is_refused(response: bytes) -> None:
    exchange = plain()
    next(exchange)
    with pytest.raises(SaslError):
        exchange.send(response)


def test_plain_says_as_which_identity_the_login_acts() -> None:
    exchange = plain()
    next(exchange)
    with pytest.raises(StopIteration) as done:
        exchange.send(b"other\0me\0secret")
    assert done.value.value == Credentials(b"me", b"secret", b"other")


def test_login_asks_for_the_user_name_and_then_the_password() -> None:
    exchange = login()
    assert next(exchange) == b"Username:"
    assert exchange.send(b"me") == b"Password:"
    with pytest.raises(StopIteration) as done:
        exchange.send(b"secret")
    assert done.value.value == Credentials(b"me", b"secret")


def test_a_lone_equals_sign_is_the_empty_response() -> None:
    assert decode_response(b"=") == b""  # RFC 4954 §4


@pytest.mark.parametrize("line", [b"not base64!", b"YQ", b"YQ==\0", "ä".encode()])
def test_what_is_not_base64_is_refused(line: bytes) -> None:
    with pytest.raises(SaslError):
        decode_response(line)


def test_two_mechanisms_have_a_password_and_two_a_token() -> None:
    assert set(WITH_PASSWORD) == {b"PLAIN", b"LOGIN"}
    assert set(WITH_TOKEN) == {b"OAUTHBEARER", b"XOAUTH2"}


@rows(
    "response,username",
    [
        (b"n,,\1auth=Bearer abc.d-e_f\1\1", b""),
        (b"y,,\1auth=bearer abc.d-e_f\1\1", b""),
        (b"n,a=mailer,\1host=gate.example\1port=587\1auth=Bearer abc.d-e_f\1\1", b"mailer"),
        (b"n,a=a=2Cb=3Dc,\1auth=Bearer abc.d-e_f\1\1", b"a,b=c"),
        (b"n,,\1other=something\1auth=Bearer   abc.d-e_f\1\1", b""),
    ],
)
def test_oauthbearer_has_a_token_and_perhaps_a_name(response: bytes, username: bytes) -> None:
    exchange = oauthbearer()
    assert next(exchange) == b""
    with pytest.raises(StopIteration) as done:
        exchange.send(response)
    assert done.value.value == TokenCredentials(username, Secret("abc.d-e_f"))


@rows(
    "response",
    [
        b"",
        b"n,,",
        b"n,,\1auth=Bearer abc\1",
        b"n,,\1\1",
        b"n,,\1host=gate.example\1\1",
        b"p=tls-unique,,\1auth=Bearer abc\1\1",
        b"n,a=,\1auth=Bearer abc\1\1",
        b"n,a=b=c,\1auth=Bearer abc\1\1",
        b"n,b=mailer,\1auth=Bearer abc\1\1",
        b"n,a=mailer,x\1auth=Bearer abc\1\1",
        b"n,,\1auth=Bearer abc\1auth=Bearer def\1\1",
        b"n,,\1auth=Basic abc\1\1",
        b"n,,\1auth=Bearer a b\1\1",
        b"n,,\1port=many\1auth=Bearer abc\1\1",
        b"n,,\1=x\1auth=Bearer abc\1\1",
        b"n,,\1auth=Bearer abc\1\1\1",
    ],
)
def test_oauthbearer_of_another_form_is_refused(response: bytes) -> None:
    exchange = oauthbearer()
    next(exchange)
    with pytest.raises(SaslError):
        exchange.send(response)


def test_xoauth2_has_a_name_and_a_token() -> None:
    exchange = xoauth2()
    assert next(exchange) == b""
    with pytest.raises(StopIteration) as done:
        exchange.send(b"user=mailer\1auth=Bearer abc\1\1")
    assert done.value.value == TokenCredentials(b"mailer", Secret("abc"))


@rows(
    "response",
    [
        b"user=mailer\1\1",
        b"user=mailer\1auth=Bearer abc",
        b"user=a\1user=b\1auth=Bearer abc\1\1",
        b"user=mailer\1auth=Bearer \xff\1\1",
    ],
)
def test_xoauth2_of_another_form_is_refused(response: bytes) -> None:
    exchange = xoauth2()
    next(exchange)
    with pytest.raises(SaslError):
        exchange.send(response)


def test_a_response_does_not_show_its_token() -> None:
    assert "abc" not in repr(TokenCredentials(b"mailer", Secret("abc")))
