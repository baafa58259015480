import pytest

from smtpgate.smtp.sasl import MECHANISMS, Credentials, SaslError, decode_response, login, plain


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


def test_the_two_mechanisms_of_ses_are_offered() -> None:
    assert set(MECHANISMS) == {b"PLAIN", b"LOGIN"}
