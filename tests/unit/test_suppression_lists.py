"""Suppression lists: the spelling of addresses, and the events that put them there."""

import pytest

from smtpgate.core.address import parse_forward_path
from smtpgate.core.feedback.kinds import BOUNCE_KINDS
from smtpgate.core.outbox.event import (
    BounceDetail,
    ComplaintDetail,
    DelayDetail,
    DeliveryDetail,
    Detail,
    EventRecipient,
    SendDetail,
    sending_event,
)
from smtpgate.core.suppression.lists import (
    ALL_REASONS,
    listed,
    read_address,
    read_reason,
    read_reasons,
    reason_of,
)
from tests.support.notifications import MAIL


@pytest.mark.parametrize(
    ("written", "on_lists"),
    [
        ("jane@example.org", "jane@example.org"),
        ("Jane.DOE@EXAMPLE.org", "jane.doe@example.org"),
        ("<jane@example.org>", "jane@example.org"),
        ("jane+Shop@example.org", "jane+shop@example.org"),
        ("jane@bücher.example", "jane@xn--bcher-kva.example"),
        ('"jane"@example.org', "jane@example.org"),
        ('"Jane Doe"@example.org', '"jane doe"@example.org'),
        ("jane.@example.org", '"jane."@example.org'),
        ("JÜRGEN@example.org", "jürgen@example.org"),
        ("jane@[192.0.2.1]", "jane@[192.0.2.1]"),
    ],
)
def test_an_address_has_one_spelling_on_lists(written: str, on_lists: str) -> None:
    assert read_address(written) == on_lists
    assert read_address(on_lists) == on_lists
    assert listed(parse_forward_path(f"<{on_lists}>")) == on_lists


@pytest.mark.parametrize(
    "written", ["", "jane", "postmaster", "@example.org", "a b@example.org"]
)
def test_what_is_no_address_is_on_no_list(written: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_address(written)


def test_reasons_are_read_in_any_order_and_letter_case() -> None:
    assert read_reasons(["complaint", " Bounce"]) == ALL_REASONS
    assert read_reasons([]) == ()
    assert read_reason("Complaint") == "COMPLAINT"
    with pytest.raises(ValueError, match="`SPAM' is no reason: it is one of BOUNCE, COMPLAINT"):
        read_reason("spam")


def reason(detail: Detail) -> str | None:
    recipient = EventRecipient("jane@example.org")
    return reason_of(sending_event(MAIL.sent_at, MAIL, [recipient], detail))


def test_permanent_bounces_that_are_not_from_a_list_put_addresses_there() -> None:
    found = {kind.subtype for kind in BOUNCE_KINDS if reason(BounceDetail(kind)) == "BOUNCE"}
    assert found == {"General", "NoEmail"}
    assert {reason(BounceDetail(kind)) for kind in BOUNCE_KINDS} == {"BOUNCE", None}


@pytest.mark.parametrize(
    ("detail", "wanted"),
    [
        (ComplaintDetail(feedback_type="abuse"), "COMPLAINT"),
        (ComplaintDetail(), "COMPLAINT"),
        (ComplaintDetail(feedback_type="not-spam"), None),
        (SendDetail(), None),
        (DeliveryDetail(), None),
        (DelayDetail(), None),
    ],
)
def test_complaints_do_and_nothing_else(detail: Detail, wanted: str | None) -> None:
    assert reason(detail) == wanted
