"""The sessions of a trace, and its lines."""

from smtpgate.core.transcript import (
    SessionFacts,
    TraceTarget,
    command_text,
    reply_texts,
    response_text,
)
from tests.support.rows import rows
from tests.support.world import DELEGATE, OWNER

_LOGGED_IN = SessionFacts("s1", "192.0.2.7", DELEGATE, "AKIA1", is_open=True)
_NEW = SessionFacts("s2", "2001:db8::7")
_ENDED = SessionFacts("s3", "192.0.2.8", is_open=False)
_MAPPED = SessionFacts("s4", "::ffff:192.0.2.9")
_LOCAL = SessionFacts("s5", "")


@rows(
    "target, facts, wanted",
    [
        (TraceTarget(session="s1"), _LOGGED_IN, True),
        (TraceTarget(session="s1"), _NEW, False),
        (TraceTarget(account=DELEGATE), _LOGGED_IN, True),
        (TraceTarget(account=OWNER), _LOGGED_IN, False),
        (TraceTarget(account=DELEGATE, key="AKIA1"), _LOGGED_IN, True),
        (TraceTarget(account=DELEGATE, key="AKIA2"), _LOGGED_IN, False),
        # It may still log in; one that ended cannot.
        (TraceTarget(account=DELEGATE), _NEW, None),
        (TraceTarget(account=DELEGATE), _ENDED, False),
        (TraceTarget(network="192.0.2.0/24"), _LOGGED_IN, True),
        (TraceTarget(network="192.0.2.0/24"), _MAPPED, True),
        (TraceTarget(network="192.0.2.0/24"), _NEW, False),
        (TraceTarget(network="192.0.2.0/24"), _LOCAL, False),
        (TraceTarget(network="2001:db8::/32"), _NEW, True),
    ],
)
def test_a_trace_is_about_the_sessions_that_its_target_names(
    target: TraceTarget, facts: SessionFacts, wanted: bool | None
) -> None:
    assert target.includes(facts) is wanted


@rows("target", [TraceTarget(account=DELEGATE), TraceTarget(session="s1")])
def test_a_target_without_a_network_is_about_no_address(target: TraceTarget) -> None:
    assert not target.includes_address("192.0.2.7")


@rows(
    "line, text",
    [
        (b"*", "*"),
        (b"", "*** (0 octets of a response)"),
        (b"c2VjcmV0", "*** (8 octets of a response)"),
    ],
)
def test_a_response_to_a_challenge_is_not_shown_unless_it_ends_the_login(
    line: bytes, text: str
) -> None:
    assert response_text(line) == text


@rows(
    "line, text",
    [
        (b"AUTH", "AUTH"),
        (b"auth plain", "AUTH PLAIN"),
        (b"AUTH PLAIN c2VjcmV0", "AUTH PLAIN *** (8 octets of a response)"),
        (b"AUTH c2VjcmV0", "AUTH ***"),
    ],
)
def test_a_login_is_shown_with_its_mechanism(line: bytes, text: str) -> None:
    assert command_text(line) == text


def test_an_empty_secret_hides_nothing_of_a_reply() -> None:
    assert reply_texts(b"250 OK\r\n", [b""]) == ["250 OK"]
