"""Access keys: whether one may be used, from where and when, and what is said if not."""

from datetime import UTC, datetime, timedelta, timezone
from ipaddress import ip_network
from typing import Any, Final, get_args

import pytest
from msgspec import structs

from smtpgate.core.account import (
    AccessKey,
    Account,
    KeyRefusal,
    Principal,
    SendingLimits,
    TemporaryLimits,
    usable_key,
)
from smtpgate.core.events import AuthReason
from smtpgate.core.policy.values import as_network
from smtpgate.core.reason import LOGIN_REASONS, REASONS
from smtpgate.core.reply import Reject
from smtpgate.core.secret import Secret, smtp_password
from smtpgate.core.upstream.verdict import last_word
from tests.support.rows import rows
from tests.support.world import DELEGATE

NOW: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
SECOND: Final = timedelta(seconds=1)
PIN, OTHER_PIN = (f"sha256:{at:064x}" for at in (1, 2))


def access_key(
    *,
    is_active: bool = True,
    expires_at: datetime | None = None,
    networks: tuple[str, ...] = (),
    certificates: tuple[str, ...] = (),
    paused_reason: str | None = None,
    shutdown_reason: str | None = None,
    is_sending: bool = True,
) -> AccessKey:
    account = Account(
        DELEGATE,
        "Delegate",
        SendingLimits(-1, -1),
        paused_reason,
        shutdown_reason=shutdown_reason,
        is_sending=is_sending,
    )
    known = tuple(as_network(ip_network(network)) for network in networks)
    principal = Principal.root(account)
    return AccessKey(
        "AKIA",
        Secret("s"),
        principal,
        is_active,
        expires_at,
        known,
        certificates=certificates,
    )


@rows(
    "expires_at, refusal",
    [
        (None, None),
        (NOW + SECOND, None),
        (NOW + timedelta(microseconds=1), None),
        (NOW, "access-key-expired"),
        (NOW - SECOND, "access-key-expired"),
        (NOW.replace(tzinfo=timezone(timedelta(hours=-1))), None),
        (NOW.replace(tzinfo=timezone(timedelta(hours=1))), "access-key-expired"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))), None),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), "access-key-expired"),
    ],
)
def test_it_expires_at_that_very_moment(
    expires_at: datetime | None, refusal: str | None
) -> None:
    assert access_key(expires_at=expires_at).refusal("192.0.2.7", NOW) == refusal


@rows(
    "networks, address, is_allowed",
    [
        ((), "192.0.2.7", True),
        ((), "unknown", True),
        (("192.0.2.0/24",), "192.0.2.0", True),
        (("192.0.2.0/24",), "192.0.2.255", True),
        (("192.0.2.0/24",), "192.0.3.0", False),
        (("192.0.2.7",), "192.0.2.7", True),
        (("192.0.2.7",), "192.0.2.8", False),
        (("192.0.2.0/24",), "::ffff:192.0.2.7", True),
        (("192.0.2.0/24",), "::ffff:c000:0207", True),
        (("192.0.2.0/24",), "::192.0.2.7", False),
        (("192.0.2.0/24",), "2001:db8::1", False),
        (("2001:db8::/32",), "2001:db8:ffff::1", True),
        (("2001:db8::/32",), "2001:db9::", False),
        (("2001:db8::/32", "192.0.2.0/24"), "192.0.2.7", True),
        (("::/0",), "192.0.2.7", False),
        (("::/0",), "::ffff:192.0.2.7", False),
        (("::ffff:192.0.2.0/120",), "192.0.2.7", True),
        (("::ffff:192.0.2.0/120",), "::ffff:192.0.2.7", True),
        (("::ffff:192.0.2.0/120",), "192.0.3.7", False),
        (("0.0.0.0/0",), "2001:db8::1", False),
        (("0.0.0.0/0", "::/0"), "unknown", False),
        (("0.0.0.0/0", "::/0"), "", False),
        (("127.0.0.0/8",), "0127.0.0.1", False),
    ],
)
def test_it_may_be_used_from_its_networks_alone(
    networks: tuple[str, ...], address: str, is_allowed: bool
) -> None:
    refusal = access_key(networks=networks).refusal(address, NOW)
    assert refusal == (None if is_allowed else "network-not-allowed")


def test_what_is_wrong_with_the_key_is_reported_before_where_it_is_used() -> None:
    key = access_key(is_active=False, expires_at=NOW, networks=("192.0.2.0/24",))
    assert key.refusal("198.51.100.1", NOW) == "access-key-inactive"
    key = access_key(expires_at=NOW, networks=("192.0.2.0/24",), paused_reason="unpaid")
    assert key.refusal("198.51.100.1", NOW) == "access-key-expired"


def test_a_suspended_key_is_refused_after_what_else_is_wrong_with_it() -> None:
    key = structs.replace(access_key(networks=("192.0.2.0/24",)), is_suspended=True)
    assert key.refusal("198.51.100.1", NOW) == "network-not-allowed"
    assert key.refusal("192.0.2.7", NOW) == "access-key-suspended"
    with pytest.raises(Reject) as refused:
        usable_key(key, "192.0.2.7", NOW)
    assert "suspended" in str(refused.value.reply)


@rows(
    "limits, slowed",
    [
        (SendingLimits(-1, -1), SendingLimits(-1, 0.1)),
        (SendingLimits(500, 10), SendingLimits(500, 0.1)),
        (SendingLimits(500, 0.05), SendingLimits(500, 0.05)),
    ],
)
def test_a_slow_rate_lowers_only(limits: SendingLimits, slowed: SendingLimits) -> None:
    assert limits.slowed_to(0.1) == slowed
    raised = TemporaryLimits(1000, 50.0, NOW + SECOND)
    both = structs.replace(limits, raised=raised).slowed_to(0.1)
    assert both.at(NOW).max_send_rate_per_s == slowed.max_send_rate_per_s
    assert both.at(NOW).max_24h_send in (1000, -1)


def test_a_key_that_may_not_be_used_has_its_password_all_the_same() -> None:
    key = access_key(is_active=False)
    password = smtp_password(key.secret, "us-east-1").value.encode()
    assert key.has_smtp_password(password, "us-east-1")
    assert not key.has_smtp_password(password, "eu-west-1")
    assert not key.has_smtp_password(b"", "us-east-1")


@pytest.mark.parametrize(
    ("key", "reason", "detail", "text"),
    [
        (None, "access-key-inactive", "", "Access key is no longer active"),
        (
            access_key(is_active=False),
            "access-key-inactive",
            "",
            "Access key is no longer active",
        ),
        (access_key(expires_at=NOW), "access-key-expired", "", "Access key has expired"),
        (
            access_key(networks=("192.0.2.0/24",)),
            "network-not-allowed",
            "198.51.100.1",
            "Access key may not be used from this network",
        ),
        (
            access_key(certificates=(PIN,)),
            "certificate-not-allowed",
            "",
            "Access key may not be used without its certificate",
        ),
        (
            access_key(paused_reason="unpaid"),
            "account-paused",
            "unpaid",
            "Sending paused for this account",
        ),
        (access_key(paused_reason=""), "account-paused", "", "Sending paused for this account"),
        (
            access_key(shutdown_reason="it bounces"),
            "account-shutdown",
            "it bounces",
            "Sending paused for this account",
        ),
        (
            access_key(is_sending=False),
            "account-sending-off",
            "",
            "Sending paused for this account",
        ),
    ],
)
def test_whose_key_may_not_be_used_is_refused_with_554_and_its_session_ends_with_421(
    key: AccessKey | None, reason: str, detail: str, text: str
) -> None:
    with pytest.raises(Reject) as caught:
        usable_key(key, "198.51.100.1", NOW)
    refusal = caught.value
    assert (refusal.reply.code, refusal.reason, refusal.detail) == (554, reason, detail)
    because = f"{reason}: {detail}" if detail else reason
    assert str(last_word(refusal)) == f"421 4.7.0 {text}, closing the connection ({because})"


@rows(
    "certificates, shown, is_allowed",
    [
        ((), "", True),
        ((), PIN, True),
        ((PIN,), PIN, True),
        ((PIN, OTHER_PIN), OTHER_PIN, True),
        ((PIN,), "", False),
        ((PIN,), OTHER_PIN, False),
        ((PIN,), PIN[:-1], False),
        ((PIN,), PIN.removeprefix("sha256:"), False),
        ((PIN,), PIN.upper(), False),
    ],
)
def test_it_may_be_used_with_one_of_its_certificates_alone(
    certificates: tuple[str, ...], shown: str, is_allowed: bool
) -> None:
    key = access_key(certificates=certificates)
    wanted = None if is_allowed else "certificate-not-allowed"
    assert key.refusal("192.0.2.7", NOW, shown) == wanted
    if certificates:  # a caller that knows of no certificate has none
        assert key.refusal("192.0.2.7", NOW) == "certificate-not-allowed"


def test_a_key_that_may_be_used_is_the_key_itself() -> None:
    key = access_key(expires_at=NOW + SECOND, networks=("192.0.2.0/24",))
    assert usable_key(key, "192.0.2.7", NOW) is key


def test_a_reason_of_any_length_fits_the_last_line_of_a_session() -> None:
    with pytest.raises(Reject) as caught:
        usable_key(access_key(paused_reason="x" * 5000), "192.0.2.7", NOW)
    wire = last_word(caught.value).wire()
    assert wire.count(b"\r\n") == 1
    assert len(wire) <= 512


def test_every_reason_of_a_failed_login_is_explained() -> None:
    assert set(get_args(AuthReason)) == set(LOGIN_REASONS)
    assert set(get_args(KeyRefusal)) < set(LOGIN_REASONS)
    assert set(get_args(KeyRefusal)) < set(REASONS)


@rows(
    "facts, why",
    [
        ({}, None),
        ({"paused_reason": "unpaid"}, "unpaid"),
        ({"shutdown_reason": "its bounce rate"}, "its bounce rate"),
        ({"is_sending": False}, "it has turned its sending off"),
        # The reason that the account itself cannot take away comes first.
        ({"is_sending": False, "shutdown_reason": "its bounce rate"}, "its bounce rate"),
        ({"paused_reason": "unpaid", "shutdown_reason": "its bounce rate"}, "unpaid"),
    ],
)
def test_an_account_that_may_not_send_has_a_reason(
    facts: dict[str, Any], why: str | None
) -> None:
    assert access_key(**facts).principal.account.why_paused == why
