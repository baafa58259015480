"""``smtpgate identity mail-from``: set, published, checked, removed."""

import pytest

from tests.support.desk import Desk
from tests.support.world import DOMAIN, OWNER


@pytest.fixture
def registered(desk: Desk) -> Desk:
    """An account with a verified domain."""
    desk.take_bounces()
    desk.says("account", "create", OWNER)
    desk.says("identity", "register", DOMAIN, "--trust")
    return desk


def test_it_says_what_to_publish(registered: Desk) -> None:
    said = registered.says("identity", "mail-from", "set", DOMAIN, "bounce.ses-example.com")
    assert "  bounce.ses-example.com. IN MX 10 bounces.gate.example.com.\n" in said
    assert '  bounce.ses-example.com. IN TXT ( "v=spf1 mx ~all" )\n' in said
    shown = registered.answers("identity", "mail-from", "show", DOMAIN)
    assert (shown["mail_from"], shown["status"]) == ("bounce.ses-example.com", "pending")
    assert [record["type"] for record in shown["publish"]] == ["MX", "TXT"]
    registered.says("identity", "mail-from", "delete", DOMAIN, "--yes")
    assert "has no MAIL FROM domain" in registered.refuses(
        "identity", "mail-from", "show", DOMAIN
    )


def test_without_a_listener_for_bounces_there_is_none(registered: Desk) -> None:
    registered.configure("[feedback]\nenabled = true", "[feedback]\nenabled = false")
    said = registered.refuses("identity", "mail-from", "set", DOMAIN, "bounce.ses-example.com")
    assert "this gate takes no bounces: feedback.enabled is false" in said
