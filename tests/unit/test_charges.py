"""The limits that a message is counted against, and the end of a raise."""

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpgate.core.account import UNLIMITED, Account, Principal, SendingLimits, TemporaryLimits
from smtpgate.core.arn import IdentityArn, user_arn
from smtpgate.core.authorization.charges import charges_of
from smtpgate.core.identity import Identity
from smtpgate.core.limits import Charge, Subject
from tests.support.world import OWNER

NOW: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
LATER: Final = NOW + timedelta(hours=1)
KEY: Final = "AKIAIOSFODNN7EXAMPLE"
DELEGATE: Final = Account("999999999999", "Delegate sender", SendingLimits(200, 10))
OF_ACCOUNT: Final = Charge(Subject("999999999999"), SendingLimits(200, 10))
FEW: Final = SendingLimits(5, UNLIMITED)

QUOTAS: Final = st.just(UNLIMITED) | st.integers(0, 10**6)
RATES: Final = st.just(UNLIMITED) | st.floats(0.1, 1000)
RAISES: Final = st.builds(
    TemporaryLimits, st.none() | QUOTAS, st.none() | RATES, st.just(LATER)
)


def user(limits: SendingLimits | None = None) -> Principal:
    arn = user_arn(DELEGATE.id, "mailer")
    return Principal(DELEGATE, "mailer", arn, "AIDAMAILER", limits=limits)


def identity(name: str, **caps: SendingLimits) -> Identity:
    arn = IdentityArn("aws", "us-east-1", OWNER, name)
    of = {account.removeprefix("of_"): limits for account, limits in caps.items()}
    return Identity(arn, is_verified=True, caps=of)


def test_the_account_is_charged_and_nobody_else_who_has_no_limits_of_its_own() -> None:
    uncapped = identity("example.com", of_111111111111=FEW)
    assert charges_of(user(), KEY, None, NOW, [uncapped]) == (OF_ACCOUNT,)
    assert charges_of(Principal.root(DELEGATE), KEY, None, NOW) == (OF_ACCOUNT,)


def test_limits_within_the_account_s_come_behind_it() -> None:
    capped = [identity("example.com", of_999999999999=FEW), identity("example.net")]
    assert charges_of(user(FEW), KEY, FEW, NOW, capped) == (
        OF_ACCOUNT,
        Charge(Subject("999999999999", "user", "mailer"), FEW),
        Charge(Subject("999999999999", "access-key", KEY), FEW),
        Charge(
            Subject(
                "999999999999",
                "identity",
                "arn:aws:ses:us-east-1:888888888888:identity/example.com",
            ),
            FEW,
        ),
    )


def test_a_root_has_no_limits_as_a_user_and_its_key_may_have_some() -> None:
    of_key = Charge(Subject("999999999999", "access-key", KEY), FEW)
    assert charges_of(Principal.root(DELEGATE), KEY, FEW, NOW) == (OF_ACCOUNT, of_key)


@pytest.mark.parametrize(
    ("usual", "raised", "during"),
    [
        ((200, 10), (1000, None), (1000, 10)),
        ((200, 10), (None, 20.0), (200, 20)),
        ((200, 10), (UNLIMITED, UNLIMITED), (UNLIMITED, UNLIMITED)),
        ((UNLIMITED, UNLIMITED), (1000, 20.0), (UNLIMITED, UNLIMITED)),
        ((200, 10), (100, 5.0), (200, 10)),  # the usual limits were set higher meanwhile
        ((0, 10), (50, None), (50, 10)),
    ],
)
def test_a_raise_holds_until_its_end(
    usual: tuple[int, float], raised: tuple[int | None, float | None], during: tuple[int, float]
) -> None:
    limits = SendingLimits(*usual, TemporaryLimits(*raised, LATER))
    account = Account(DELEGATE.id, "", limits)
    for now, holds in (
        (NOW, during),
        (LATER - timedelta(microseconds=1), during),
        (LATER, usual),
        (LATER + timedelta(days=1), usual),
    ):
        (charge,) = charges_of(Principal.root(account), KEY, None, now)
        assert charge.limits == SendingLimits(*holds)


@given(QUOTAS, RATES, st.none() | RAISES, st.sampled_from((NOW, LATER)))
def test_no_raise_ever_lowers_a_limit(
    quota: int, rate: float, raised: TemporaryLimits | None, now: datetime
) -> None:
    holds = SendingLimits(quota, rate, raised).at(now)
    assert holds.raised is None
    for value, usual in ((holds.max_24h_send, quota), (holds.max_send_rate_per_s, rate)):
        assert value == UNLIMITED or usual != UNLIMITED
        assert value == UNLIMITED or value >= usual
